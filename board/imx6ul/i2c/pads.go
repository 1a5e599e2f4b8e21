package i2c

import "nitro/board/imx6ul/gpio"

// Pads are a bus's lines whose pads can be GPIO too. They implement Pins.
type Pads struct {
	Clock, Data *gpio.Line // with their pads as GPIO
	Function    []gpio.Pad // the same pads as the I2C block's lines
}

// Take makes the lines GPIO, released.
func (p *Pads) Take() {
	p.Clock.Input()
	p.Data.Input()
}

// Give makes them the block's again.
func (p *Pads) Give() {
	for _, f := range p.Function {
		f.Select()
	}
}

// SCL pulls the clock low, or releases it.
func (p *Pads) SCL(low bool) { p.Clock.OpenDrain(low) }

// SDA pulls the data low, or releases it.
func (p *Pads) SDA(low bool) { p.Data.OpenDrain(low) }

// Levels reads both lines.
func (p *Pads) Levels() (scl, sda bool) { return p.Clock.High(), p.Data.High() }
