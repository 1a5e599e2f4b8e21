package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"nitro/qemu-test/linuxhost"
)

// fioVolume is the name of the volume that fio writes on.
const fioVolume = "fio"

// fioSteps are those of fio.
func (t *tale) fioSteps() []step {
	return []step{
		{"a second volume, for fio", t.attachFio},
		{"fio on the device, its connections cut", t.fioDevice},
		{"fio on ext4, the controller restarts", t.fioFile},
	}
}

// fioLimit is how long fio may take beside a step's time: it moves each byte twice, and at 256
// KiB/s even a machine that has much else to do is done.
func (t *tale) fioLimit() time.Duration {
	return stepLimit + time.Duration(t.work.Fio>>10/128)*time.Second
}

func (t *tale) attachFio(ctx context.Context) (string, error) {
	found, err := t.volume(ctx, fioVolume, strconv.Itoa(linuxhost.FioVolume))
	if err != nil {
		return "", err
	}
	var v volume
	err = t.tool(ctx, &v, "attach", "-standing", "-lease", "12h", fioVolume)
	if err == nil && !v.Attached {
		err = errors.New("it is not attached")
	}
	return found, err
}

// fioDevice follows fio on the device: the host cuts its connections by itself.
func (t *tale) fioDevice(context.Context) (string, error) {
	if _, err := t.hostSays("half", t.fioLimit()); err != nil {
		return "", err
	}
	return t.fioDone("device")
}

// fioFile follows fio in a file, and resets the controller in the middle.
func (t *tale) fioFile(context.Context) (string, error) {
	if _, err := t.hostSays("half", t.fioLimit()); err != nil {
		return "", err
	}
	if err := t.resetController(); err != nil {
		return "", err
	}
	return t.fioDone("file")
}

// fioDone expects fio to have written and read all, and nothing to have failed.
func (t *tale) fioDone(on string) (string, error) {
	r, err := t.hostSays("fio", t.fioLimit())
	if err != nil {
		return "", err
	}
	size, loops := t.work.FioParts()
	f := r.Fields
	written, err1 := strconv.ParseInt(f["written"], 10, 64)
	verified, err2 := strconv.ParseInt(f["read"], 10, 64)
	if errors.Join(err1, err2) != nil || f["on"] != on || written != size*loops || verified < written || f["complaints"] != "0" {
		return "", fmt.Errorf("fio was to write %d bytes on the %s, to read them, and to see no error; it reports %v", size*loops, on, f)
	}
	return fmt.Sprintf("%d MiB written, %d MiB read and right in %s s, no I/O error", written>>20, verified>>20, f["seconds"]), nil
}
