// Package spinor tests the drivers of SPI NOR flash on the emulator's own chips. The
// drivers run in the test; their accesses to registers go to the emulator by its qtest
// protocol, so the emulated block and the chip behind it are the real ones of QEMU, and
// its processor stands still.
//
// The sabrelite has a chip (SST25VF016B) with its chip select on GPIO. The board that the
// firmware runs on, mcimx6ul-evk, has no chip and no such wire: there the test plays the
// wire, for chips of other vendors, whose descriptions (SFDP) are QEMU's copies of real
// ones.
package spinor
