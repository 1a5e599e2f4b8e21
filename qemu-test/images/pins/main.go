// Command pins is an image that waits for edges on GPIO1's line 4 and has line 3
// follow its level. A test on the machine outside moves the one and watches the
// other.
package main

import (
	"fmt"
	"os"
	"time"

	"nitro/board/evk"
	"nitro/board/imx6ul"
	"nitro/board/imx6ul/gpio"
	"nitro/board/imx6ul/irq"
)

func main() {
	if err := run(); err != nil {
		fmt.Println("pins:", err)
		os.Exit(1)
	}
}

func run() error {
	d, err := evk.Open()
	if err != nil {
		return err
	}
	line, err := irq.Open(imx6ul.GPIO1LineLow)
	if err != nil {
		return err
	}
	defer line.Close()
	in, out := d.Line(4, "in"), d.Line(3, "out")
	in.Input()
	out.Output(in.High())
	for _, edge := range []struct {
		name string
		on   gpio.Trigger
	}{{"rising", gpio.RisingEdge}, {"falling", gpio.FallingEdge}, {"both", gpio.BothEdges}, {"both", gpio.BothEdges}} {
		in.Arm(edge.on)
		fmt.Println("armed", edge.name)
		n, err := line.Wait(time.Now().Add(20 * time.Second))
		if err != nil {
			return fmt.Errorf("waiting for an edge: %s: %w", edge.name, err)
		}
		out.Set(in.High())
		fmt.Println("came", edge.name, n, in.Acknowledge(), in.High())
		if err := line.Enable(); err != nil {
			return err
		}
	}
	return nil
}
