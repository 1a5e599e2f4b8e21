package peer

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// makeTree builds a device tree: a node /timer with the property status, beside
// a node /soc/timer that must stay as it is.
func makeTree(status string) []byte {
	const names = "status\x00compatible\x00"
	var s []byte
	word := func(w uint32) { s = binary.BigEndian.AppendUint32(s, w) }
	text := func(t string) { s = append(s, t...); s = append(s, make([]byte, -len(s)&3)...) }
	node := func(name string) { word(tokenBegin); text(name + "\x00") }
	prop := func(offset uint32, value string) {
		word(tokenProp)
		word(uint32(len(value)))
		word(offset)
		text(value)
	}
	node("")
	node("soc")
	node("timer")
	prop(0, "disabled\x00")
	word(tokenEnd)
	word(tokenEnd)
	node("timer")
	prop(7, "arm,armv7-timer\x00")
	prop(0, status)
	word(tokenEnd)
	word(tokenEnd)
	word(tokenLast)

	header := make([]byte, treeHeader)
	for i, w := range []uint32{treeMagic, uint32(treeHeader + len(s) + len(names)), treeHeader, uint32(treeHeader + len(s))} {
		binary.BigEndian.PutUint32(header[4*i:], w)
	}
	return append(append(header, s...), names...)
}

func TestEnableTimer(t *testing.T) {
	for _, status := range []string{"disabled\x00", "okay\x00", "reserved-for-long\x00"} {
		before := makeTree(status)
		after, err := enableTimer(before)
		if err != nil {
			t.Fatalf("%q: %v", status, err)
		}
		if !bytes.Equal(before, makeTree(status)) {
			t.Errorf("%q: the original was changed", status)
		}
		if len(after) != len(before) {
			t.Errorf("%q: length %d became %d", status, len(before), len(after))
		}
		for _, c := range []struct {
			node []string
			want string
		}{{[]string{"", "timer"}, "okay\x00"}, {[]string{"", "soc", "timer"}, "disabled\x00"}} {
			if got := statusOf(t, after, c.node); got != c.want {
				t.Errorf("%q: status of %q is %q, want %q", status, c.node, got, c.want)
			}
		}
		// The walk past the changed node meets only well-formed tokens.
		r := treeReader{data: after, at: treeHeader, strings: uint64(binary.BigEndian.Uint32(after[12:]))}
		if _, _, err := r.find([]string{"", "none"}, "status"); err == nil || err == errTree {
			t.Errorf("%q: walk to the end: %v", status, err)
		}
	}
}

// statusOf reads a node's status with a reader of its own.
func statusOf(t *testing.T, tree []byte, node []string) string {
	t.Helper()
	r := treeReader{data: tree, at: treeHeader, strings: uint64(binary.BigEndian.Uint32(tree[12:]))}
	at, size, err := r.find(node, "status")
	if err != nil {
		t.Fatal(err)
	}
	return string(tree[at : at+size])
}

func TestEnableTimerRefuses(t *testing.T) {
	whole := makeTree("disabled\x00")
	for n := range len(whole) - len("compatible\x00") {
		if _, err := enableTimer(whole[:n]); err == nil {
			t.Errorf("a tree cut at %d of %d bytes was accepted", n, len(whole))
		}
	}
	if _, err := enableTimer(makeTree("x\x00")); err == nil {
		t.Error("a status too short for \"okay\" was accepted")
	}
}

func FuzzEnableTimer(f *testing.F) {
	f.Add(makeTree("disabled\x00"))
	f.Add(makeTree("okay\x00"))
	f.Fuzz(func(t *testing.T, tree []byte) {
		if out, err := enableTimer(tree); err == nil && len(out) != len(tree) {
			t.Errorf("length %d became %d", len(tree), len(out))
		}
	})
}
