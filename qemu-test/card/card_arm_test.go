package card

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"

	"nitro/board/evk"
	"nitro/board/imx6ul/sd"
)

type board struct {
	first, second *sd.Card
}

var open = sync.OnceValues(func() (b board, err error) {
	e, err := evk.Open()
	if err != nil {
		return b, err
	}
	if b.first, err = e.SDCard(0); err != nil {
		return b, err
	}
	b.second, err = e.SDCard(1)
	return b, err
})

func card(t *testing.T) *sd.Card {
	t.Helper()
	b, err := open()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.first.Open(); err != nil {
		t.Fatal(err)
	}
	return b.first
}

func TestBringUp(t *testing.T) {
	c := card(t)
	t.Log(c)
	r := rand.New(rand.NewPCG(1, 2))
	want := make([]byte, 300*512)
	for i := range want {
		want[i] = byte(r.Uint32())
	}
	if err := c.WriteBlocks(7, want); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if err := c.ReadBlocks(7, got); err != nil || !bytes.Equal(got, want) {
		t.Fatal(err, bytes.Equal(got, want))
	}
	t.Logf("%+v", c.Stats())
}
