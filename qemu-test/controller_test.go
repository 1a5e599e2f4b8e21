//go:build !arm

package qemutest

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"nitro/qemu-test/rack"
)

func client() *http.Client {
	return &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // the certificate is of this boot
		DisableKeepAlives: true,
	}}
}

// get fetches a JSON object from the board.
func get(t *testing.T, r *rack.Rack, path string) map[string]any {
	t.Helper()
	address, err := r.Address(443)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client().Get("https://" + address + path)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	var o map[string]any
	if err == nil {
		err = json.Unmarshal(body, &o)
	}
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v: %s", path, answer.Status, err, body)
	}
	return o
}

// TestController: the firmware holds the host from its first instructions, comes up,
// serves, goes on when the link flaps, and holds the host over a reset.
func TestController(t *testing.T) {
	b := newProvisioned(t)
	b.on(nil)
	r := b.Rack
	ready := func() {
		t.Helper()
		if _, err := r.Expect(`controller: ready\r\n`, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	ready()
	if !strings.Contains(string(r.Console()), "controller: host: is held\r\n") {
		t.Error("the firmware does not say that it holds the host, which it is not to guard")
	}
	if o := get(t, r, "/healthz"); o["status"] != "ready" || o["board"] != "MCIMX6UL-EVK" || o["emulated"] != true {
		t.Errorf("health: %v", o)
	}
	led := rack.GPIO(1, 8)
	seen := len(r.Pins.Changes())
	for _, d := range []rack.Drive{rack.High, rack.Low, rack.High} {
		if _, err := r.Pins.Await(seen, led, d, 20*time.Second); err != nil {
			t.Errorf("status LED: %v", err)
		}
	}
	for range 3 {
		for _, up := range []bool{false, true} {
			if err := r.QMP.SetLink("imx.enet.0", up); err != nil {
				t.Fatal(err)
			}
			time.Sleep(1500 * time.Millisecond)
		}
	}
	get(t, r, "/healthz")
	if err := r.Reset(); err != nil {
		t.Fatal(err)
	}
	ready()
	get(t, r, "/healthz")
	for _, c := range r.Pins.Changes() {
		if strings.HasPrefix(c.Pin.String(), "expander") {
			t.Errorf("a line that holds the host was let go: %v", c)
		}
	}
}

// TestFightingLine: a net that is low although the firmware holds it is found, and puts
// the board into quarantine for longer than its power lasts.
func TestFightingLine(t *testing.T) {
	b := newGuarded(t)
	b.on(func(c *rack.Config) { c.Hold = true })
	must(t, b.Pins.Short(rack.WireBMC), b.QMP.Continue())
	b.says(`controller: quarantine: host: commanded to hold, and not held: bmc: [^\r]*`)
	b.says(`controller: quarantine: code 701 host-lines-fighting`)
	b.says(`controller: ready`)
	if s := b.status(); s.State != "quarantine" || s.Quarantine.Code != 701 || s.Quarantine.Incident != 1 {
		t.Errorf("it is %+v", s)
	}
	b.off()
	b.on(nil) // the net is as it should be
	b.says(`controller: quarantine: code 701 host-lines-fighting`)
	b.leave(b.status().Quarantine.Code, b.status().Quarantine.Incident, false)
	b.says(`controller: quarantine 701 host-lines-fighting, incident 1: the owner lets the board out`)
	b.says(`controller: host: cycle \d+: running`)
}
