// Package tree walks a folder of a Linux host and opens what lies in it.
//
// It promises names as the kernel has them, raw bytes of any kind and paths of any length, in one order on every host;
// that nothing is left out in silence: a folder or file that cannot be looked at comes with its error; and that no
// symbolic link is ever followed, also not one that takes a folder's place while we look.
//
// It reads no content, knows no host but its own, and changes nothing.
package tree
