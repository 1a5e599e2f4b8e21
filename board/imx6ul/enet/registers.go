package enet

// Places and interrupt lines (IMX6ULLRM Rev. 1, 2.2 and 3.2).
const (
	Base1 = 0x02188000
	Base2 = 0x020b4000
	Size  = 0x4000

	Line1 = 32 + 118
	Line2 = 32 + 120
)

// Registers (22.6).
const (
	regEIR   = 0x004   // events; writing a 1 clears the event, and no other
	regEIMR  = 0x008   // events that raise the interrupt line
	eirGRA   = 1 << 28 // transmission has stopped as asked
	eirRXF   = 1 << 25 // a frame was received
	eirMII   = 1 << 23 // a management transfer is over
	eirEBERR = 1 << 22 // bus error: the MAC has stopped

	regRDAR = 0x010 // writing tells that there are empty receive descriptors
	regTDAR = 0x014 // writing tells that there are frames to transmit
	active  = 1 << 24

	regECR     = 0x024 // control
	ecrRESET   = 1 << 0
	ecrETHEREN = 1 << 1 // clearing it stops DMA and has it begin at the first descriptors
	ecrEN1588  = 1 << 4 // enhanced descriptors
	ecrDBSWP   = 1 << 8 // descriptors are little endian

	regMMFR   = 0x040 // management frame
	mmfrStart = 1 << 30
	mmfrRead  = 2 << 28
	mmfrWrite = 1 << 28
	mmfrTurn  = 2 << 16 // turnaround
	regMSCR   = 0x044   // management clock
	mscrSpeed = 1       // shift of MII_SPEED, six bits
	mscrHold  = 8       // shift of HOLDTIME, three bits

	regMIBC  = 0x064 // statistics
	mibClear = 1 << 29

	regRCR    = 0x084 // receive control
	rcrMaxFL  = 16    // shift of the longest frame
	rcr10     = 1 << 9
	rcrRMII   = 1 << 8
	rcrMII    = 1 << 2 // must be set
	rcrDRT    = 1 << 1 // do not receive what we transmit: half duplex
	regTCR    = 0x0c4  // transmit control
	tcrFDEN   = 1 << 2 // full duplex
	tcrGTS    = 1 << 0 // stop after the frame that is being transmitted
	regPALR   = 0x0e4  // our address, bytes 0 to 3
	regPAUR   = 0x0e8  // bytes 4 and 5, above the type of pause frames
	paurPause = 0x8808
	regIAUR   = 0x118 // hash of individual addresses, which are not used
	regIALR   = 0x11c
	regGAUR   = 0x120 // hash of group addresses, bits 63 to 32
	regGALR   = 0x124
	allGroups = 0xffffffff // in both: all groups are received

	regTFWR     = 0x144
	tfwrSTRFWD  = 1 << 8 // transmit what has come whole into the FIFO: for checksums
	regRDSR     = 0x180  // address of the receive descriptors
	regTDSR     = 0x184  // address of the transmit descriptors
	regMRBR     = 0x188  // size of receive buffers
	regRSFL     = 0x190  // 0: hand received frames on when they are whole
	regFTRL     = 0x1b0  // where longer frames are cut
	regTACC     = 0x1c0
	taccPROCHK  = 1 << 4 // insert TCP and UDP checksums
	taccIPCHK   = 1 << 3 // insert IPv4 header checksums
	regRACC     = 0x1c4
	raccLINEDIS = 1 << 6 // discard frames with a wrong FCS, length or code
	raccPRODIS  = 1 << 2 // discard wrong TCP, UDP and ICMP checksums
	raccIPDIS   = 1 << 1 // discard wrong IPv4 header checksums
)

// Statistics (22.6, the MIB's counters): those of frames that no descriptor tells of.
const (
	regDropped = 0x2c8 // IEEE_R_DROP: no start of a frame
	regCRC     = 0x2d0 // IEEE_R_CRC
	regAlign   = 0x2d4 // IEEE_R_ALIGN
	regOverrun = 0x2d8 // IEEE_R_MACERR: the receive FIFO was full
)

// An enhanced descriptor has 32 bytes (22.5.6.2 and 22.5.6.4); its first word has the
// length below the status, its second the buffer's address.
const (
	descriptorSize = 32

	// Words: 32 bits each.
	wordStatus = 0
	wordBuffer = 1
	wordExtra  = 2 // enhanced status and control

	// Status, receive: as far as it is looked at.
	rxEmpty    = 1 << 31
	wrap       = 1 << 29 // the ring's last descriptor
	last       = 1 << 27 // of a frame
	rxLong     = 1 << 21 // longer than RCR allows
	rxOdd      = 1 << 20 // not a whole number of bytes
	rxCRC      = 1 << 18
	rxOverrun  = 1 << 17
	rxTruncate = 1 << 16
	rxBad      = rxLong | rxOdd | rxCRC | rxOverrun | rxTruncate

	// Status, transmit.
	txReady = 1 << 31
	txCRC   = 1 << 26 // append the FCS

	lengthMask = 0xffff

	// Extra.
	rxInterrupt   = 1 << 23
	txProtocolSum = 1 << 28 // PINS
	txHeaderSum   = 1 << 27 // IINS
	txError       = 1 << 15 // TXE: any of the errors below it
	txUnderflow   = 1 << 13
	txCollisions  = 1 << 12 // EE, too many
	txLate        = 1 << 10 // LCE, late collision
)
