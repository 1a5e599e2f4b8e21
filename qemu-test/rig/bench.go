package rig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"nitro/internal/tied"
	"nitro/qemu-test/console"
)

// A bench is a board with a serial adapter, a network cable and a switch for its power.
type bench struct {
	description *Description
	folder      string // where its paths begin
	console     *console.Console
	serial      *os.File
	reading     sync.WaitGroup
}

// newBench opens the console, and leaves the power as it is.
func newBench(d *Description, folder string, log io.Writer) (*bench, error) {
	b := &bench{description: d, folder: folder, console: console.New(log)}
	var err error
	if b.serial, err = openSerial(within(folder, d.Console.Device), d.Console.Baud); err != nil {
		return nil, err
	}
	b.reading.Go(b.read)
	return b, nil
}

// read takes in what the board says, until the device is closed or gone.
func (b *bench) read() {
	_, err := io.Copy(b.console, b.serial)
	if err == nil {
		err = io.EOF
	}
	b.console.End(fmt.Errorf("rig: console %s: %w", b.serial.Name(), err))
}

// Console implements Board.
func (b *bench) Console() *console.Console { return b.console }

// Address implements Board.
func (b *bench) Address(p Port) (string, error) {
	address := map[Port]string{Service: b.description.Network.Service, Provisioning: b.description.Network.Provisioning}[p]
	if address == "" {
		return "", fmt.Errorf("%w: %s", ErrNoPort, p)
	}
	return address, nil
}

// On implements Board.
func (b *bench) On(ctx context.Context) error { return b.power(ctx, b.description.Power.On) }

// Off implements Board.
func (b *bench) Off(ctx context.Context) error {
	if err := b.power(ctx, b.description.Power.Off); err != nil {
		return err
	}
	select {
	case <-time.After(time.Duration(*b.description.Power.OffSeconds) * time.Second):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// maxSaid is how much of what a command says is shown, in bytes.
const maxSaid = 4 << 10

// power runs a command that switches the power.
func (b *bench) power(ctx context.Context, command []string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(b.description.Power.LimitSeconds)*time.Second)
	defer cancel()
	program := command[0]
	if strings.Contains(program, "/") {
		program = within(b.folder, program)
	}
	cmd := exec.CommandContext(ctx, program, command[1:]...)
	cmd.Dir, cmd.WaitDelay = b.folder, time.Second // for what the command itself has started, and left
	said := &head{most: maxSaid}
	cmd.Stdout, cmd.Stderr = said, said
	err := tied.Run(cmd)
	if ctx.Err() != nil {
		err = errors.Join(err, ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("rig: power: %q: %w: %s", command, err, bytes.TrimSpace(said.b))
	}
	return nil
}

// Close implements Board.
func (b *bench) Close() error {
	err := b.power(context.Background(), b.description.Power.Off)
	err = errors.Join(err, b.serial.Close())
	b.reading.Wait()
	return err
}

// A head keeps the beginning of what is written to it.
type head struct {
	b    []byte
	most int
}

// Write implements io.Writer.
func (h *head) Write(p []byte) (int, error) {
	h.b = append(h.b, p[:min(len(p), h.most-len(h.b))]...)
	return len(p), nil
}
