// Package metal builds images for the board and runs them under the emulator,
// and so runs Go tests on the metal: any package's, the standard library's too.
//
// A test image is the package's test binary, linked as an image is. Since a test
// binary does not import the board, an overlay adds one file to the package's
// external test package that does. Overlays are for tests alone: [Build.Image]
// has none, a product is built from the files that lie in the tree. The program's
// arguments, its environment and the files that it reads and writes come through
// semihosting, which only images with the tag boardtest have.
//
// A package whose tests want more than the bare board, such as a device on a bus,
// lists the emulator's arguments in testdata/qemu.args.
//
// Fuzz targets with kept inputs are left out: the board cannot list their folders.
//
// On the board there are no other processes, no sockets and no directories.
// Packages of this module that start programs are told apart by their import of
// os/exec, and named in the report. Which tests of the standard library run is
// written in [Std], with a reason for each that does not.
package metal
