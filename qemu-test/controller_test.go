//go:build !arm

package qemutest

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nitro/internal/metal"
	"nitro/qemu-test/rack"
)

// controller builds the firmware as the product is.
func controller(t *testing.T) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "controller.elf")
	if err := (metal.Build{}).Image(t.Context(), "nitro/cmd/controller", image); err != nil {
		t.Fatal(err)
	}
	return image
}

// powerOn starts the firmware in a rack. Its HTTPS port can be reached through both
// networks, if it answers there.
func powerOn(t *testing.T, c rack.Config) *rack.Rack {
	t.Helper()
	c.Nets = []rack.Net{{Cable: rack.User, Forward: map[int]int{443: 0}}, {Cable: rack.User}}
	r, err := rack.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

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
// serves, goes on when the link flaps, and holds the host over a reset. An empty card
// slot does not keep it from that.
func TestController(t *testing.T) {
	r := powerOn(t, rack.Config{Image: controller(t), Expander: true, Wires: rack.ResetWires()})
	ready := func() {
		t.Helper()
		if _, err := r.Expect(`controller: ready\r\n`, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	ready()
	for _, name := range []string{"host CPU reset", "BMC reset", "platform reset"} {
		if !strings.Contains(string(r.Console()), "controller: "+name+" is held\r\n") {
			t.Errorf("the firmware does not say that it holds %s", name)
		}
	}
	// The pins that hold are driven low before anything else happens to any pin, and
	// stay so.
	changes := r.Pins.Changes()
	for i, pin := range []rack.Pin{rack.GPIO(1, 1), rack.GPIO(1, 3)} {
		if len(changes) <= i || changes[i].Pin != rack.GPIO(1, 1) && changes[i].Pin != rack.GPIO(1, 3) || changes[i].Drive != rack.Low {
			t.Errorf("change %d of the pins is %v", i, changes[i])
		}
		if d, err := r.Pins.State(pin); d != rack.Low || err != nil {
			t.Errorf("%v is %v, %v", pin, d, err)
		}
	}
	if o := get(t, r, "/healthz"); o["status"] != "ready" || o["board"] != "MCIMX6UL-EVK" || o["emulated"] != true {
		t.Errorf("health: %v", o)
	}
	if o := get(t, r, "/redfish/v1/"); o["Id"] != "RootService" || o["Product"] != "MCIMX6UL-EVK" {
		t.Errorf("service root: %v", o)
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
		if (c.Pin == rack.GPIO(1, 1) || c.Pin == rack.GPIO(1, 3)) && c.Drive == rack.High {
			t.Errorf("a pin that holds the host let it go: %v", c)
		}
	}
}

// TestFightingLine: a net that is high although the firmware holds it is found, and the
// firmware does not come up.
func TestFightingLine(t *testing.T) {
	wires := rack.ResetWires()
	wires[1].Sense = nil // BMC reset: the sense input is not on the net
	r := powerOn(t, rack.Config{Image: controller(t), NoTPM: true, Expander: true, Wires: wires, Hold: true})
	if err := r.Pins.Drive(rack.GPIO(1, 4), true); err != nil {
		t.Fatal(err)
	}
	if err := r.QMP.Continue(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Expect(`controller: host held: hold: BMC reset: pin driven true, net high: the net is not held[^\r]*\r\n`, time.Minute); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(r.Console()), "controller: ready") {
		t.Error("the firmware came up")
	}
}
