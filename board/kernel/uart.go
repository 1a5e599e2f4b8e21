package kernel

// The console's UART (IMX6ULRM 55.15), transmit only: nobody can type at it.
const (
	uartTXD  = 0x40
	uartUCR1 = 0x80
	uartUCR2 = 0x84
	uartUCR3 = 0x88
	uartUFCR = 0x90
	uartUSR2 = 0x98
	uartUBIR = 0xa4
	uartUBMR = 0xa8
	uartUTS  = 0xb4

	ucr1UARTEN  = 1 << 0
	ucr1TRDYEN  = 1 << 13
	ucr2SRST    = 1 << 0 // not in reset
	ucr2TXEN    = 1 << 2
	ucr2WS      = 1 << 5  // 8 bits
	ucr2IRTS    = 1 << 14 // ignore RTS
	ucr3MUXED   = 1 << 2  // must be set on this chip
	usr2TXDC    = 1 << 3  // all sent
	utsTXFULL   = 1 << 4
	uartFIFO    = 32
	ufcrTrigger = 2 << 10 // interrupt at 2 characters left
	ufcrDiv1    = 5 << 7
)

// start sets 115,200 baud, 8N1, from the 80 MHz UART clock.
func (c *console) start() {
	writeReg(c.uart+uartUCR1, ucr1UARTEN)
	writeReg(c.uart+uartUCR2, ucr2SRST|ucr2TXEN|ucr2WS|ucr2IRTS)
	writeReg(c.uart+uartUCR3, ucr3MUXED)
	writeReg(c.uart+uartUFCR, ufcrTrigger|ufcrDiv1)
	writeReg(c.uart+uartUBIR, 15)
	writeReg(c.uart+uartUBMR, 80000000/115200-1)
}

// transmit moves bytes from the ring to the transmitter while it takes them, at
// most a FIFO's worth, and has it interrupt when it can take more.
func (c *console) transmit() {
	for range uartFIFO {
		if c.head == c.tail {
			break
		}
		if readReg(c.uart+uartUTS)&utsTXFULL != 0 {
			break
		}
		b, _ := c.take()
		writeReg(c.uart+uartTXD, uint32(b))
	}
	if more := c.head != c.tail; more != c.transmitting {
		c.transmitting = more
		ucr1 := uint32(ucr1UARTEN)
		if more {
			ucr1 |= ucr1TRDYEN
		}
		writeReg(c.uart+uartUCR1, ucr1)
	}
}

// consoleInterrupt goes on transmitting, and wakes writers when there is room.
func (k *kernel) consoleInterrupt() {
	k.console.transmit()
	if k.console.room() >= consoleSize/2 && !k.rings.alone(nodeConsole) {
		k.wakeAll(nodeConsole)
		k.work |= workSchedule
	}
}
