package usdhc

// Registers, under the names of IMX6ULLRM 58, uSDHC Memory Map. Where the emulator differs, the code says so.
const (
	regBLKATT = 0x04 // block attributes: BLKSIZE in bits 12 to 0, BLKCNT in 31 to 16

	regCMDARG = 0x08 // command argument

	regCMDXFRTYP = 0x0c    // command transfer type: writing it sends the command
	cmdINX       = 24      // six bits
	cmdABORT     = 3 << 22 // CMDTYP: CMD12 that stops a transfer
	cmdDPSEL     = 1 << 21 // data follows
	cmdCICEN     = 1 << 20 // check the index in the answer
	cmdCCCEN     = 1 << 19 // check the answer's CRC
	cmdRSP136    = 1 << 16 // RSPTYP
	cmdRSP48     = 2 << 16 //
	cmdRSP48Busy = 3 << 16 //
	regCMDRSP0   = 0x10    // answer, bits 39 to 8; of 136 bits, 39 to 8
	regCMDRSP1   = 0x14    // bits 71 to 40
	regCMDRSP2   = 0x18    // bits 103 to 72
	regCMDRSP3   = 0x1c    // bits 127 to 104; the answer to Auto CMD12
	regPRESSTATE = 0x24    // present state
	presCIHB     = 1 << 0  // the command line is in use
	presCDIHB    = 1 << 1  // the data lines are in use
	presSDSTB    = 1 << 3  // the clock is stable
	presSDOFF    = 1 << 7  // the clock is gated off
	presCINST    = 1 << 16 // a card is inserted: CD_B, debounced
	presDAT0     = 1 << 24 // DLSL: the level of DAT0

	regPROTCTRL = 0x28    // protocol control
	protDTW4    = 1 << 1  // DTW: four lines
	protLittle  = 2 << 4  // EMODE
	protADMA2   = 2 << 8  // DMASEL
	protReset   = 8 << 20 // bit 23, which the reset value has

	regSYSCTRL  = 0x2c       // system control
	sysAlways   = 0xf        // reserved, always written as 1; the emulator's clock enables
	sysDVS      = 4          // divisor less one, four bits
	sysSDCLKFS  = 8          // half the prescaler, eight bits; 0 is 1
	sysDTOCV    = 0xf << 16  // data time-out: the longest, 2^29 clocks
	sysIPPRSTN  = 1 << 23    // the card's reset output, not active
	sysRSTA     = 1 << 24    // software reset for all
	sysRSTC     = 1 << 25    // for the command line
	sysRSTD     = 1 << 26    // for the data lines
	sysINITA    = 1 << 27    // sends 80 clocks
	sysDividers = 0xfff << 4 // DVS and SDCLKFS

	regINTSTATUS   = 0x30 // interrupt status, write 1 to clear
	regINTSTATUSEN = 0x34 // which of them are noted
	regINTSIGNALEN = 0x38 // which of them raise the interrupt
	intCC          = 1 << 0
	intTC          = 1 << 1  // transfer complete
	intDINT        = 1 << 3  // the DMA is through
	intCRM         = 1 << 7  // the card was removed
	intCTOE        = 1 << 16 // command time-out
	intCCE         = 1 << 17 // command CRC
	intCEBE        = 1 << 18 // command end bit
	intCIE         = 1 << 19 // command index
	intDTOE        = 1 << 20 // data time-out
	intDCE         = 1 << 21 // data CRC
	intDEBE        = 1 << 22 // data end bit
	intAC12E       = 1 << 24 // Auto CMD12
	intDMAE        = 1 << 28 // DMA

	intTimeouts = intCTOE | intDTOE
	intCRCs     = intCCE | intCEBE | intCIE | intDCE | intDEBE | intAC12E
	intErrors   = intTimeouts | intCRCs | intDMAE
	intAll      = intCC | intTC | intDINT | intCRM | intErrors

	regAC12ERR = 0x3c // Auto CMD12 error status

	regWTMKLVL = 0x44 // watermarks, in words
	// Bursts of 16 words at 64 words, both ways: an eighth of the 128 words of the
	// FIFO in flight, half of it in reserve.
	wtmk = 16<<24 | 64<<16 | 16<<8 | 64

	regMIXCTRL = 0x48    // mixer control; RSTA leaves it as it is
	mixAlways  = 1 << 31 // reserved, always 1
	mixDMAEN   = 1 << 0
	mixBCEN    = 1 << 1 // count blocks
	mixAC12EN  = 1 << 2 // Auto CMD12
	mixDTDSEL  = 1 << 4 // data comes from the card
	mixMSBSEL  = 1 << 5 // several blocks

	regADMAERR = 0x54 // ADMA error status
	regADMASYS = 0x58 // ADMA system address: that of the descriptors

	regDLLCTRL = 0x60 // delay line, for clocks beyond 100 MHz
	regTUNE    = 0x68 // sample clock delay

	regVENDSPEC    = 0xc0       // vendor specific
	vendReset      = 0x20007809 // its reset value: SDR, 3.3 V (VSELECT 0), clocks enabled
	vendFRCSDCLKON = 1 << 8     // the card's clock runs always: it ends busy by a clock edge
	regMMCBOOT     = 0xc4       // eMMC's boot mode
)

// Size is that of the block's registers.
const Size = 0x4000
