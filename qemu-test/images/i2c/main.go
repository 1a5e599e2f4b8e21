// Command i2c is an image that says what an EEPROM on I2C1 begins with, and then has
// line 1 of an expander follow line 0, turned round.
package main

import (
	"fmt"
	"os"
	"time"

	"nitro/board/evk"
	"nitro/board/imx6ul/pca9552"
)

func main() {
	if err := run(); err != nil {
		fmt.Println("i2c:", err)
		os.Exit(1)
	}
}

func run() error {
	d, err := evk.Open()
	if err != nil {
		return err
	}
	text := make([]byte, 8)
	if err := d.I2C1.Tx(0x50, []byte{0, 0}, text); err != nil {
		return err
	}
	fmt.Printf("i2c: the EEPROM begins with %q\n", text)
	e, err := pca9552.New(d.I2C1, 0x60)
	if err != nil {
		return err
	}
	for last := uint16(2); ; time.Sleep(5 * time.Millisecond) {
		levels, err := e.Levels()
		if err != nil {
			return err
		}
		if levels&1 == last {
			continue
		}
		last = levels & 1
		if err := e.Pull(1, last != 0); err != nil {
			return err
		}
		fmt.Printf("i2c: line 0 is %d\n", last)
	}
}
