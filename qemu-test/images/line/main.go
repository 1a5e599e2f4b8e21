// Command line is an image that opens and closes an interrupt line, for a test
// that looks at the interrupt controller from outside.
package main

import (
	"fmt"
	"os"

	_ "nitro/board/evk"
)

func main() {
	for range 3 {
		f, err := os.OpenFile("/dev/irq/88", os.O_RDWR, 0)
		if err != nil {
			fmt.Println("line:", err)
			os.Exit(1)
		}
		f.Close()
	}
}
