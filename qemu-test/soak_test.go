//go:build !arm

package qemutest

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nitro/internal/metal"
	"nitro/qemu-test/rack"
)

var soakTime = flag.Duration("soak", time.Minute, "how long TestSoak loads the board")

// usage is one line of images/soak.
type usage struct {
	second, threads, descriptors, goroutines, heap, pages, card, collections int
}

// TestSoak loads the board with HTTPS requests, on new connections and on kept ones,
// while it moves blocks to and from its card and collects garbage. Nothing may fail,
// and once the load is over the board must hold no more than before it.
func TestSoak(t *testing.T) {
	folder := t.TempDir()
	image, card := filepath.Join(folder, "soak.elf"), filepath.Join(folder, "card.img")
	if err := (metal.Build{}).Image(t.Context(), "nitro/qemu-test/images/soak", image); err != nil {
		t.Fatal(err)
	}
	if err := rack.NewCard(card, 64<<20); err != nil {
		t.Fatal(err)
	}
	r, err := rack.Start(rack.Config{
		Image: image, NoTPM: true, Cards: [2]string{card},
		Nets: []rack.Net{{Cable: rack.User, Forward: map[int]int{443: 0}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Expect(`soak: ready\r\n`, time.Minute); err != nil {
		t.Fatal(err)
	}
	address, err := r.Address(443)
	if err != nil {
		t.Fatal(err)
	}
	warm, err := load(t.Context(), address, 10*time.Second) // so that all pools have what they will keep
	if err != nil {
		t.Fatal(err)
	}
	before := settled(t, r)
	requests, err := load(t.Context(), address, *soakTime)
	if err != nil {
		c := r.Console()
		t.Fatalf("%v\n%s", err, c[max(0, len(c)-3000):])
	}
	after, grown := comesDown(t, r, before)
	t.Logf("%d requests (%d before), %d blocks to the card and back, %d collections\nbefore %+v\nafter  %+v",
		requests, warm, after.card-before.card, after.collections-before.collections, before, after)
	if requests == 0 || after.card == before.card || after.collections == before.collections {
		t.Error("the board was not loaded")
	}
	for _, g := range grown {
		t.Error(g)
	}
}

// grew tells what is more in a second than in one before, by more than chance.
func grew(before, after usage) (grown []string) {
	for _, c := range []struct {
		what                string
		before, after, more int
	}{
		{"threads", before.threads, after.threads, 2},
		{"descriptors", before.descriptors, after.descriptors, 0},
		{"goroutines", before.goroutines, after.goroutines, 2},
		{"bytes of heap", before.heap, after.heap, 512 << 10},
		{"pages", before.pages, after.pages, 1024},
	} {
		if c.after > c.before+c.more {
			grown = append(grown, fmt.Sprintf("%s grew from %d to %d", c.what, c.before, c.after))
		}
	}
	return grown
}

// load asks for the service root from several clients until the time is over: half of
// them on a connection each that they keep, half on a new one for each request. Every
// request must be answered.
func load(ctx context.Context, address string, long time.Duration) (requests int64, err error) {
	const clients = 4
	ctx, cancel := context.WithTimeout(ctx, long)
	defer cancel()
	var n atomic.Int64
	var wg sync.WaitGroup
	failed := make(chan error, clients)
	for i := range clients {
		wg.Go(func() {
			client := &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{
				TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // its certificate is of this boot
				DisableKeepAlives: i%2 == 1,
			}}
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				if err := ask(client, "https://"+address+"/redfish/v1/"); err != nil {
					failed <- fmt.Errorf("client %d, after %d requests of all: %w", i, n.Load(), err)
					cancel()
					return
				}
				n.Add(1)
			}
		})
	}
	wg.Wait()
	select {
	case err = <-failed:
	default:
	}
	return n.Load(), err
}

func ask(client *http.Client, url string) error {
	answer, err := client.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && (answer.StatusCode != http.StatusOK || !strings.Contains(string(body), `"Id":"RootService"`)) {
		err = fmt.Errorf("status %d, %q", answer.StatusCode, body)
	}
	return err
}

// settled waits until what the load left behind is gone: connections that wait for the
// last segments of their peers take ten seconds. It gives the smallest of each number
// over the seconds after that.
func settled(t *testing.T, r *rack.Rack) usage {
	t.Helper()
	const settle, look = 13, 4 // seconds
	r.Skip()
	var last usage
	for n := range settle + look {
		u := second(t, r)
		if n > settle {
			u.heap, u.goroutines = min(last.heap, u.heap), min(last.goroutines, u.goroutines)
		}
		last = u
	}
	return last
}

// comesDown waits, for two minutes of the board's, until nothing is more than before. It
// gives the last second that it saw, and what is still more then: what does not go away
// is a leak, however long a busy machine takes to let go of the rest.
func comesDown(t *testing.T, r *rack.Rack, before usage) (u usage, grown []string) {
	t.Helper()
	r.Skip()
	for range 120 {
		u = second(t, r)
		if grown = grew(before, u); grown == nil {
			break
		}
	}
	return u, grown
}

// second reads the board's next line.
func second(t *testing.T, r *rack.Rack) (u usage) {
	t.Helper()
	line, err := r.Expect(`soak: (second \d+ [^\r]*)\r\n`, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(line[1], "second %d threads %d descriptors %d goroutines %d heap %d pages %d card %d collections %d",
		&u.second, &u.threads, &u.descriptors, &u.goroutines, &u.heap, &u.pages, &u.card, &u.collections); err != nil {
		t.Fatalf("%q: %v", line[1], err)
	}
	return u
}
