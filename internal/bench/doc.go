// Package bench measures what a masked and proven reset of staging and a comparison of two trees of images cost, against
// the tools that people use for that today, on a lab of its own. It promises a comparison, not a number: the contenders
// take turns, several rounds, and what is reported is medians with the lowest and the highest, and ratios within a round.
// One that cannot be measured is said to be missing. The product runs as its users run it, as a process of its own whose
// JSON is read. It never touches anything but its lab, which goes with it.
package bench
