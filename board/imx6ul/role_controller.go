//go:build !bootloader

package imx6ul

// The part that an image plays in the boot chain is fixed when it is built. Without a
// build tag it is the last one: it starts no other, and takes RAM as the bootloader has
// left it.
const (
	Bootloader = false
	NextStart  = 0
	NextEnd    = 0
)
