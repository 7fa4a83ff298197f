package mask

import "strings"

// The names below are invented: no everyday given or family name is among them or begins one of them, so
// a real name on staging is always a leak and never a coincidence.
const (
	longestGiven  = 8
	longestFamily = 11
)

var givenNames = []string{
	"Ashkaric", "Ashkette", "Ashkith", "Ashkoric", "Ashkoven", "Ashkulf", "Austiel", "Aveleska",
	"Avelette", "Avelith", "Avelond", "Avelora", "Breneska", "Brenian", "Breniel", "Brenine", "Brenoric",
	"Briskian", "Briskiel", "Briskora", "Briskwen", "Briskwyn", "Brovamir", "Broveen", "Brovian",
	"Broviel", "Brovisse", "Brovulf", "Corveen", "Corvesto", "Corviel", "Corvith", "Corvond", "Corvoric",
	"Daskanor", "Daskette", "Daskine", "Daskith", "Daskora", "Dorvaric", "Dorvesto", "Dorvette",
	"Dorvond", "Dorvwen", "Eldramir", "Eldrette", "Eldrian", "Eldrisse", "Eldrond", "Eldrwyn", "Eloweska",
	"Elowette", "Elowine", "Elowora", "Ervianor", "Erviella", "Ervieska", "Erviond", "Erviora",
	"Ervioric", "Faeramir", "Faeresto", "Faeriel", "Faerine", "Faerisse", "Fenramir", "Fenraric",
	"Fenreska", "Fenrette", "Gaskeska", "Gaskette", "Gaskiel", "Gaskith", "Gaskora", "Gaskwyn",
	"Gwilette", "Gwiline", "Gwilulf", "Heskesto", "Heskine", "Heskwyn", "Ilvdric", "Ilvith", "Ilvulf",
	"Ionvdric", "Ionvian", "Ionvond", "Ionvora", "Jeskdric", "Jeskwen", "Jorvaric", "Jorvian", "Jorvith",
	"Kestoven", "Kestwen", "Liothulf", "Lorvith", "Lorvwen", "Mirvesto", "Mirvian", "Mirvoric", "Mirvwen",
	"Mirvwyn", "Nervamir", "Nerveen", "Nervisse", "Nervond", "Nervora", "Nervwen", "Novranor", "Novreska",
	"Novrond", "Ombrith", "Ombrora", "Ombroven", "Othriel", "Othrond", "Othrulf", "Paskanor", "Paskora",
	"Paskoven", "Prysanor", "Pryseska", "Prysian", "Prysond", "Pryswen", "Pryswyn", "Quileska", "Quiloven",
	"Quiliel", "Quilond", "Quiloric", "Quilwyn", "Sevresto", "Sevrian", "Sevrisse", "Sevroven", "Sevrwyn",
	"Skeldric", "Skeleska", "Skelesto", "Skelwen", "Tamvdric", "Tamvian", "Thalvith", "Thalvwen",
	"Ulvdric", "Ulveska", "Ulvette", "Ulvith", "Ulvoric", "Ulvwyn", "Undranor", "Undresto", "Undrian",
	"Undrine", "Undrulf", "Undrwyn", "Veldette", "Veldiel", "Veldisse", "Veldoric", "Veldulf", "Veskanor",
	"Veskdric", "Veskeen", "Veskesto", "Veskwen", "Wiskamir", "Wiskaric", "Wiskiel", "Wiskond", "Wiskora",
	"Wiskoven", "Wyndaric", "Wyndeska", "Wyndith", "Wyndoven", "Yorrdric", "Yorresto", "Yorrette",
	"Yorrian", "Yorrond", "Yorroric", "Yskaric", "Yskeen", "Yskeska", "Yskette", "Yskine", "Yskoven",
	"Zephian", "Zephith", "Zephond", "Zephwyn", "Zorvamir", "Zorveska", "Zorvette", "Zorviel", "Zorvora",
	"Zorvoric",
}

var familyNames = []string{
	"Brackenholt", "Brackenshaw", "Brackenwold", "Burdockgate", "Cindercroft", "Cinderfield",
	"Cinderholt", "Cindermarch", "Cinderwold", "Cobbledale", "Cobbleden", "Cobblefell", "Cobblegate",
	"Cobblemere", "Corvencombe", "Corvenden", "Corvenfield", "Crumblefell", "Crumblegate", "Crumbleholt",
	"Crumblemere", "Crumblewick", "Damsoncombe", "Damsoncroft", "Damsonfield", "Damsonmere", "Damsonwick",
	"Dapplecroft", "Dapplegate", "Dapplemere", "Dappleshaw", "Dapplewick", "Drovelcroft", "Drovelfell",
	"Drovelholt", "Drovelwold", "Dunmerfield", "Dunmerholt", "Dunmermarch", "Dunmermere", "Dunmerwold",
	"Fallowcroft", "Fallowdale", "Fallowgate", "Fallowholt", "Fallowmarch", "Fletchenden", "Garvencroft",
	"Garvendale", "Garvenmere", "Garvenshaw", "Garvenwick", "Gorsecombe", "Gorseholt", "Gorsemere",
	"Gorseshaw", "Gorsewold", "Gravelcroft", "Gravelgate", "Gravelholt", "Gravelshaw", "Grimmendale",
	"Grimmenwick", "Grimmenwold", "Hobblecroft", "Hobbledale", "Hobblefell", "Hobblefield", "Hobbleholt",
	"Hollencombe", "Hollenfell", "Hollenholt", "Hollenmarch", "Hollenshaw", "Inkleden", "Inklemere",
	"Inkleshaw", "Inklewick", "Kindledale", "Kindleden", "Kindleholt", "Kindlemere", "Kindlewick",
	"Lanthendale", "Lanthenfell", "Lanthengate", "Lanthenholt", "Larnencombe", "Larnenfell",
	"Larnenfield", "Larnenmarch", "Larnenshaw", "Mallowcombe", "Mallowden", "Mallowmarch", "Mallowmere",
	"Marskenden", "Marskenfell", "Marskenholt", "Marskenshaw", "Marskenwold", "Nimberden", "Nimbergate",
	"Nimberwick", "Nimberwold", "Nubblecombe", "Nubbledale", "Nubbleden", "Nubblemarch", "Nubblewick",
	"Ochrecombe", "Ochredale", "Ochrefield", "Ochremarch", "Ochrethorpe", "Orreryden", "Orreryfell",
	"Orrerymarch", "Oskenden", "Oskengate", "Oskenholt", "Oskenshaw", "Oskenthorpe", "Osterfell",
	"Osterdale", "Ostergate", "Ostermarch", "Osterthorpe", "Pebblecombe", "Pebbledale", "Pebblefield",
	"Pebblemarch", "Pebbleshaw", "Pewterden", "Pewterfield", "Pewterholt", "Pewtershaw", "Pewterwold",
	"Plovergate", "Plovermarch", "Plovershaw", "Ploverwick", "Ploverwold", "Quarrelgate", "Quornenholt",
	"Quornenwick", "Sedgenden", "Sedgenfell", "Sedgengate", "Sedgenmere", "Sedgenshaw", "Spindledale",
	"Spindlefell", "Spindlewick", "Spindlewold", "Tarnelcroft", "Tarnelfell", "Tarnelgate", "Tarnelholt",
	"Tarnelwick", "Teaselcombe", "Teaselcroft", "Teaselfell", "Teaselshaw", "Teaselwold", "Thimbledale",
	"Thimblefell", "Thimblegate", "Thimbleshaw", "Thimblewold", "Umbrelcroft", "Umbreldale", "Umbrelfell",
	"Umbrelgate", "Umbrelwold", "Velverfield", "Velvermarch", "Velvershaw", "Velverwick", "Velverwold",
	"Vesperden", "Vespermarch", "Vespermere", "Vesperwick", "Vesperwold", "Wychencombe", "Wychenfell",
	"Wychenholt", "Wychenwick", "Wychenwold", "Yarrowcombe", "Yarrowden", "Yarrowgate", "Yarrowmarch",
	"Yarrowmere", "Zephyrcroft", "Zephyrdale", "Zephyrden", "Zephyrmere", "Zephyrwick",
}

// A masked text is an opening, then the filler as often as it takes.
const (
	openingLength = 16
	filler        = " lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore et" +
		" dolore magna aliqua, ut enim ad minim veniam, quis nostrud exercitation ullamco laboris nisi ut aliquip ex ea" +
		" commodo consequat;"
)

var openings = []string{
	"Dolor velit amet", "Velit sed aliqua", "Tempor amet duis", "Sed est occaecat", "Qui sint nostrud",
	"Nostrud sed quis", "Aute dolore esse", "Sunt non ullamco", "Labore dolor qui", "Ipsum duis magna",
	"Non irure dolore", "Mollit culpa non", "Dolore sunt elit", "Culpa dolor sint", "Nisi commodo sed",
	"Officia est amet", "Duis veniam sint", "Est mollit magna", "Eiusmod qui elit", "Irure sint dolor",
	"Ullamco enim sed", "Magna velit enim", "Esse fugiat elit", "Laborum est amet", "Minim nulla duis",
	"Aliqua enim sint", "Quis minim irure", "Fugiat sunt aute", "Sint mollit enim", "Anim non nostrud",
	"Nulla culpa esse", "Enim cillum quis",
}

// cutOpenings are the openings as they are in a column of limit characters.
func cutOpenings(limit int) []string {
	if limit == 0 || limit >= openingLength {
		return openings
	}
	var cut []string
	for _, o := range openings {
		cut = append(cut, strings.TrimRight(o[:limit], " "))
	}
	return cut
}
