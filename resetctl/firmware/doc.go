// Package firmware keeps the firmware of the host and of its BMC what it should be:
// docs/firmware.md. It has the signed manifest of a flash's regions, the golden copy in
// the encrypted store with its authenticated update, and [Golden.Verify], the work of one
// host cycle on one flash: protect, hash last, recover.
//
// It follows NIST SP 800-193 (Platform Firmware Resiliency Guidelines, May 2018):
// protection of static regions and authenticated updates (4.2), detection before the
// firmware runs (4.3), recovery from a copy that the host cannot reach (4.4).
//
// Who holds the host, owns the flash, extends PCRs and releases is package resetctl's
// business. This package calls nobody but the flash and the store.
//
// Left out: contents of mutable regions, which are the host's; firmware of cards;
// compression of golden copies; two golden copies of a part, since a bad update is put
// right by another update.
package firmware
