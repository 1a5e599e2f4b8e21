// Command nvme is an image that serves one encrypted volume in RAM over NVMe/TCP on the
// host's wire, put together as the firmware does it, to compare its speed with Linux's: the
// second Ethernet port, net/stack, nvme/target with its defaults, volume.Encrypted over
// volume.RAM. Host, secrets, addresses and key are constants: it holds nothing of worth.
//
// The host is named HostNQN and authenticates by Secret; the wire is Wire. When the target
// listens it says "nvme: listening".
package main

import (
	"fmt"
	"net/netip"
	"os"

	"nitro/board/evk"
	"nitro/net/stack"
	"nitro/nvme/dhchap"
	"nitro/nvme/target"
	"nitro/nvme/volume"
	"nitro/nvme/xts"
	"nitro/qemu-test/images/nvme/door"
)

// The volume: blocks as Linux's dm-crypt has its sectors.
const (
	blockSize = 512
	mebibytes = 64
)

func main() {
	if err := run(); err != nil {
		fmt.Println("nvme:", err)
		os.Exit(1)
	}
}

func run() error {
	b, err := evk.Open()
	if err != nil {
		return err
	}
	port, err := b.Ethernet(1)
	if err != nil {
		return err
	}
	s, err := stack.New(stack.Config{Name: "host wire", Link: port, Address: door.Wire})
	if err != nil {
		return err
	}
	l, err := s.Listen("tcp", fmt.Sprint(":", door.Port))
	if err != nil {
		return err
	}
	t, err := serveVolume()
	if err != nil {
		return err
	}
	fmt.Println("nvme: listening")
	return t.Serve(l)
}

// serveVolume makes the target, and the volume behind it.
func serveVolume() (*target.Target, error) {
	medium, err := volume.NewRAM(blockSize, mebibytes<<20/blockSize)
	if err != nil {
		return nil, err
	}
	key, raw := new(xts.Key), make([]byte, xts.KeySize256)
	raw[0] = 1 // equal halves are refused
	if err := key.Init(raw); err != nil {
		return nil, err
	}
	v, err := volume.NewEncrypted(medium, key, 4, 128<<10)
	if err != nil {
		return nil, err
	}
	t, err := target.New(target.Config{
		SubsystemNQN: door.Subsystem, Advertise: netip.AddrPortFrom(door.Wire.Addr(), door.Port),
		Serial: "0001", Model: "Nitro", Firmware: "1.0",
		Notify: func(e target.Event) { fmt.Printf("nvme: %s from %s, %q: %v\n", e.Kind, e.Remote, e.HostNQN, e.Err) },
	})
	if err != nil {
		return nil, err
	}
	var secret dhchap.Secret
	if err := secret.Set([]byte(door.Secret)); err != nil {
		return nil, err
	}
	if err := t.AddHost(door.HostNQN, &secret, nil); err != nil {
		return nil, err
	}
	return t, t.Attach(door.HostNQN, target.Namespace{ID: 1, Volume: v, UUID: [16]byte{1}})
}
