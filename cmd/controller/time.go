package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"time"

	"golang.org/x/sys/unix"

	"nitro/boot/store"
	"nitro/net/sntp"
)

// storedTime is the store's record of a time that has passed: seconds since 1970, 8 bytes,
// big endian (docs/time.md).
const storedTime = "time/stored"

// readClock sets the kernel's clock from the one on the battery. Whether that is believed
// is decided once the floor is known; until then it only dates what needs some date.
func (f *firmware) readClock() error {
	now, err := f.board.Clock().Now()
	if err != nil {
		log.Printf("the clock on the battery: %v", err)
		return nil
	}
	f.battery = true
	return setKernelClock(now)
}

func setKernelClock(t time.Time) error {
	ts := unix.NsecToTimespec(t.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return fmt.Errorf("setting the kernel's clock to %v: %w", t, err)
	}
	return nil
}

// openClock puts the clock under the time rules, and takes the one on the battery for the
// time if they allow it. A board without a time runs on, and serves evidence.
func (f *firmware) openClock() error {
	c := sntp.ClockConfig{Now: time.Now, Set: setKernelClock, Last: f.board.Clock().Set, Up: f.up, Floor: f.signedTime()}
	if s := f.chain.Store; s != nil && f.reason() == nil {
		stored, err := readStoredTime(s)
		if err != nil {
			log.Printf("%v", err)
		}
		c.Stored = stored
		c.Save = func(t time.Time) error {
			return s.Put(storedTime, binary.BigEndian.AppendUint64(nil, uint64(t.Unix())))
		}
	}
	f.clock = sntp.NewClock(c)
	err := errors.New("no clock has kept it")
	if f.battery {
		err = f.clock.Battery()
	}
	if !f.clock.Known() {
		log.Printf("the time is not known: %v", err)
		return nil
	}
	if err != nil { // it could not be stored
		log.Printf("%v", err)
	}
	log.Printf("it is %s", time.Now().UTC().Format(time.RFC3339))
	return nil
}

// signedTime is the latest time that somebody has signed: of the configuration in force
// and of the controller in the slot that runs.
func (f *firmware) signedTime() time.Time {
	c := &f.chain
	if c.Config == nil {
		return time.Unix(0, 0)
	}
	built := c.Config.Header.Built
	if c.Handover != nil && c.Card != nil && c.Anchors != nil {
		if i, err := c.SlotImage(c.Handover.Slot); err == nil {
			built = max(built, i.Built)
		}
	}
	return time.Unix(int64(built), 0)
}

func readStoredTime(s *store.Store) (time.Time, error) {
	b, err := s.Get(storedTime)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return time.Time{}, nil
	case err != nil:
		return time.Time{}, fmt.Errorf("stored time: %w", err)
	case len(b) != 8:
		return time.Time{}, fmt.Errorf("stored time: a record of %d bytes, not 8", len(b))
	}
	return time.Unix(int64(binary.BigEndian.Uint64(b)), 0), nil
}

// Times between two questions to the time servers (docs/time.md).
const (
	askSoon  = 64 * time.Second
	askLater = 1024 * time.Second
)

// keepTime asks the time servers, if the configuration in force names any, and stores the time now
// and then. It ends with the service.
func (f *firmware) keepTime() {
	client := &sntp.Client{Dial: f.ports[0].Dial}
	for told := ""; f.reason() == nil; {
		client.Servers = f.chain.Configuration().TimeServers
		wait, text := askLater, ""
		err := f.clock.Keep()
		if len(client.Servers) > 0 {
			wait, text, err = f.askTime(client)
		}
		if err != nil {
			text = err.Error()
		}
		if text != "" && text != told { // a server that is away for days is one line
			log.Print(text)
		}
		told = text
		time.Sleep(wait)
	}
}

// askTime asks once, and says when to ask again.
func (f *firmware) askTime(client *sntp.Client) (wait time.Duration, text string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), addressLimit)
	defer cancel()
	if _, err := f.ports[0].WaitAddress(ctx); err != nil {
		return askSoon, "", fmt.Errorf("time: %w", err)
	}
	known := f.clock.Known()
	r, err := client.Ask(ctx)
	if err != nil {
		f.timeFailures.Add(1)
		return askSoon, "", err
	}
	f.timeAgree.Store(int64(r.Agree))
	by, err := f.clock.Network(r)
	if err != nil {
		f.timeFailures.Add(1)
		return askLater, "", err
	}
	if !known {
		return askLater, fmt.Sprintf("%d time servers agree: it is %s", r.Agree, time.Now().UTC().Format(time.RFC3339)), nil
	}
	if by != 0 {
		text = fmt.Sprintf("%d time servers agree: the clock was moved by %v", r.Agree, by.Round(time.Millisecond))
	}
	return askLater, text, nil
}
