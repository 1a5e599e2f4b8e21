// Command tpm is an image that talks to the TPM on I2C1 (TCG PC Client Platform TPM
// Profile 1.05, section 7: TIS on I2C): it says who the TPM is, starts it, and tells
// again and again how often it has been reset. It also leaves a secret in RAM.
package main

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"time"

	"nitro/board/evk"
	"nitro/board/imx6ul/i2c"
)

// address of the TPM on the bus.
const address = 0x2e

// Registers and bits (PTP 1.05, 7.3).
const (
	regACCESS      = 0x04
	accessActive   = 0x20
	accessRequest  = 0x02
	regSTS         = 0x18 // status, then burst count
	stsValidData   = 0x90
	stsReady       = 0x40
	stsGo          = 0x20
	regFIFO        = 0x24
	regDIDVID      = 0x48
	answerLimit    = 5 * time.Second
	headerLength   = 10 // of an answer: tag, length, code
	readClockReset = 26 // where TPM2_ReadClock's answer has the count of resets
)

var (
	startup   = []byte{0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x44, 0, 0} // TPM2_Startup(TPM_SU_CLEAR)
	readClock = []byte{0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x81}       // TPM2_ReadClock
)

func main() {
	secret := sha256.Sum256([]byte("left in RAM")) // the image itself does not hold it
	if err := run(); err != nil {
		fmt.Println("tpm:", err)
		os.Exit(1)
	}
	runtime.KeepAlive(&secret)
}

func run() error {
	d, err := evk.Open()
	if err != nil {
		return err
	}
	var id [4]byte
	if err := d.I2C1.Tx(address, []byte{regDIDVID}, id[:]); err != nil {
		fmt.Println("tpm: none:", err)
		select {}
	}
	fmt.Printf("tpm: DID_VID % x\n", id)
	answer, err := execute(d.I2C1, startup)
	if err != nil {
		return err
	}
	fmt.Printf("tpm: startup %#x\n", code(answer))
	for ; ; time.Sleep(20 * time.Millisecond) {
		answer, err := execute(d.I2C1, readClock)
		switch {
		case err != nil:
			fmt.Println("tpm: lost:", err)
			select {}
		case code(answer) != 0:
			fmt.Printf("tpm: clock refused %#x\n", code(answer))
		default:
			fmt.Printf("tpm: resets %d\n", binary.BigEndian.Uint32(answer[readClockReset:]))
		}
	}
}

// code is an answer's response code.
func code(answer []byte) uint32 { return binary.BigEndian.Uint32(answer[6:]) }

// execute sends a command and reads the answer.
func execute(bus *i2c.Bus, command []byte) ([]byte, error) {
	if err := request(bus, regACCESS, accessRequest, accessActive); err != nil {
		return nil, fmt.Errorf("asking for locality 0: %w", err)
	}
	if err := request(bus, regSTS, stsReady, stsReady); err != nil {
		return nil, fmt.Errorf("getting ready: %w", err)
	}
	if err := bus.Tx(address, append([]byte{regFIFO}, command...), nil); err != nil {
		return nil, err
	}
	if err := request(bus, regSTS, stsGo, stsValidData); err != nil {
		return nil, fmt.Errorf("waiting for an answer: %w", err)
	}
	answer := make([]byte, headerLength)
	if err := bus.Tx(address, []byte{regFIFO}, answer); err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(answer[2:])
	if length < headerLength || length > 4096 {
		return nil, fmt.Errorf("the answer says that it has %d bytes", length)
	}
	if length > headerLength {
		rest := make([]byte, length-headerLength)
		if err := bus.Tx(address, []byte{regFIFO}, rest); err != nil {
			return nil, err
		}
		answer = append(answer, rest...)
	}
	return answer, bus.Tx(address, []byte{regSTS, stsReady}, nil)
}

// request writes a register and waits until it has the bits.
func request(bus *i2c.Bus, register, value, bits byte) error {
	if err := bus.Tx(address, []byte{register, value}, nil); err != nil {
		return err
	}
	var got [1]byte
	for end := time.Now().Add(answerLimit); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if err := bus.Tx(address, []byte{register}, got[:]); err != nil {
			return err
		}
		if got[0]&bits == bits {
			return nil
		}
	}
	return fmt.Errorf("register %#02x is %#02x, and the bits %#02x do not come", register, got[0], bits)
}
