package provisioning

import (
	"context"
	"testing"
)

// TestWhole: a new board is provisioned, boots, and refuses from then on.
func TestWhole(t *testing.T) {
	r := newRig(t)
	s, err := r.begin()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	address, ended, err := serve(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	o := r.factory(address)
	var steps []Step
	o.Progress = func(s Step) { steps = append(steps, s) }
	record, err := Provision(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if e := <-ended; e.err != nil || e.result == nil || len(e.result.Pin.AK) != 34 {
		t.Fatalf("%+v", e)
	}
	t.Logf("%d events, %v", r.power.events, steps)
	if !record.Complete || len(record.Lockout) != 32 {
		t.Errorf("%+v", record)
	}
	r.chip.Cycle()
	r.checkProvisioned("whole")
}
