//go:build bootloader

package imx6ul

// With the build tag bootloader an image is the first one after a reset. It wipes RAM,
// and may start another image, which it places between NextStart and NextEnd: the
// controller's payload begins at NextStart, and has room for 31 MiB there.
const (
	Bootloader = true
	NextStart  = 0x8000f000
	NextEnd    = 0x82000000
)
