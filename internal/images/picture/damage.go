package picture

// Damage is what is wrong with an image. Its values are on disk and on the wire: they are never renumbered.
type Damage byte

// The kinds of damage.
const (
	None     Damage = 0
	Empty    Damage = 1 // no byte at all
	NotImage Damage = 2 // named like an image, but no known image: an error page, say
	Cut      Damage = 3 // the end is missing
	Zeros    Damage = 4 // the end is there in length only
	Checksum Damage = 5 // bytes differ from the format's own checksum
	Broken   Damage = 6 // its parts do not fit together
	Pixels   Damage = 7 // all parts are there, but they do not decode
)

var damages = [...]string{
	None:     "none",
	Empty:    "empty",
	NotImage: "not an image",
	Cut:      "cut short",
	Zeros:    "ends in zeros",
	Checksum: "a chunk's checksum is wrong",
	Broken:   "its parts do not fit together",
	Pixels:   "the pixels do not decode",
}

// String says it to people, as in "photo.jpg: cut short".
func (d Damage) String() string {
	if int(d) < len(damages) {
		return damages[d]
	}
	return "damaged in a way that this version does not know"
}
