package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"nitro/internal/insncount"
	"nitro/internal/metal"
	"nitro/internal/peer"
	"nitro/internal/tied"
	"nitro/qemu-test/emulator"
	"nitro/qemu-test/images/nvme/door"
)

// nvmeRounds is how often each side is measured in each way: odd, so that one is in the
// middle.
const nvmeRounds = 5

// roundSeconds is how long a measurement takes.
const roundSeconds = 1

// countedBytes is what is transferred to find the instructions of an operation, but at
// least countedOperations are.
const (
	countedBytes      = 2 << 20
	countedOperations = 100
)

// A loadKind is what the host does in a measurement.
type loadKind struct {
	name, op    string
	size, depth int
}

var nvmeLoads = []loadKind{
	{"128k_read_qd1", "read", 128 << 10, 1}, {"128k_write_qd1", "write", 128 << 10, 1},
	{"128k_read_qd8", "read", 128 << 10, 8}, {"128k_write_qd8", "write", 128 << 10, 8},
	{"4k_read_qd1", "read", 4 << 10, 1}, {"4k_read_qd16", "read", 4 << 10, 16},
	{"4k_write_qd1", "write", 4 << 10, 1}, {"4k_write_qd16", "write", 4 << 10, 16},
}

// order is the load's for the host. Large operations follow each other, small ones jump.
func (k loadKind) order(target string, count, seconds int) string {
	way := "random"
	if k.size > 64<<10 {
		way = "sequential"
	}
	return fmt.Sprintf("load %s %s %d %d %s %d %d", target, k.op, k.size, k.depth, way, count, seconds)
}

// nvmeArea measures encrypted volumes over NVMe/TCP: image nvme on one board, Linux's nvmet
// over dm-crypt on another, each on a wire of its own to one x86 host with Debian's Linux,
// whose initiator reads and writes past its cache. Both have AES-256-XTS over RAM, sectors of
// 512 bytes, and no digests.
//
//	nvme.128k_read_qd1 and others
//	    throughput with operations of 128 KiB one after the other, operations a second with
//	    4 KiB anywhere; qd is how many are under way at a time
//	nvme.128k_read_qd1_insns and others
//	    instructions that the board executes for each operation, without those of idle threads
func (b *bench) nvmeArea(ctx context.Context) error {
	if err := b.nvmeWall(ctx); err != nil {
		return err
	}
	return b.nvmeCost(ctx)
}

// Names of the two targets in orders.
const (
	oursName = "ours"
	peerName = "linux"
)

// nvmeWall measures by the wall clock, in turns.
func (b *bench) nvmeWall(ctx context.Context) error {
	r, err := b.nvmeRig(ctx, false)
	if err != nil {
		return err
	}
	defer r.stop()
	for _, k := range nvmeLoads {
		var values [2][]float64
		for range nvmeRounds {
			for i, name := range []string{oursName, peerName} {
				n, took, err := r.host.obey(k.order(name, 0, roundSeconds))
				if err != nil {
					return fmt.Errorf("%s: %s: %w", k.name, name, err)
				}
				values[i] = append(values[i], float64(n)/took.Seconds())
			}
		}
		f := figure{Name: "nvme." + k.name, Value: median(values[0]), Unit: "IOPS", Peer: b.linux, PeerValue: median(values[1])}
		if k.size > 64<<10 {
			f.Unit, f.Value, f.PeerValue = "MB/s", f.Value*float64(k.size)/1e6, f.PeerValue*float64(k.size)/1e6
		}
		b.report(f)
	}
	return nil
}

// nvmeCost counts instructions.
func (b *bench) nvmeCost(ctx context.Context) error {
	r, err := b.nvmeRig(ctx, true)
	if err != nil {
		return err
	}
	defer r.stop()
	for _, k := range nvmeLoads {
		count := max(countedBytes/k.size, countedOperations)
		var costs [2]float64
		for i, name := range []string{oursName, peerName} {
			if _, _, err := r.host.obey(k.order(name, count/10, 0)); err != nil { // warm
				return fmt.Errorf("%s: %s: %w", k.name, name, err)
			}
			before, err := r.snapshots[i].Take()
			if err != nil {
				return err
			}
			if _, _, err := r.host.obey(k.order(name, count, 0)); err != nil {
				return fmt.Errorf("%s: %s: %w", k.name, name, err)
			}
			after, err := r.snapshots[i].Take()
			if err != nil {
				return err
			}
			spent := after.Since(before)
			insns := spent.Total().Insns
			if name == oursName {
				r.show(k, spent, count)
				for _, f := range spent.Functions(r.symbols) {
					if f.Name == idleFunction {
						insns -= f.Insns
					}
				}
			}
			costs[i] = float64(insns) / float64(count)
		}
		b.report(figure{Name: "nvme." + k.name + "_insns", Value: costs[0], Unit: "instructions", Peer: b.linux, PeerValue: costs[1]})
	}
	return nil
}

// show writes where the board's instructions went into a file.
func (r *nvmeRig) show(k loadKind, p insncount.Profile, count int) {
	f, err := os.Create(filepath.Join(r.build, "nvme-"+k.name+".txt"))
	if err != nil {
		return
	}
	defer f.Close()
	for _, list := range [][]insncount.Share{p.Packages(r.symbols), p.Functions(r.symbols)} {
		for _, s := range list {
			if n := float64(s.Insns) / float64(count); n >= 5 {
				fmt.Fprintf(f, "%10.0f %5.1f%% %s\n", n, 100*float64(s.Insns)/float64(p.Total().Insns), s.Name)
			}
		}
		fmt.Fprintln(f)
	}
}

// An nvmeRig is two boards and a host.
type nvmeRig struct {
	build     string
	folder    *tied.Folder // of the wires
	ours      *emulator.Board
	linux     func()
	host      *nvmeHost
	snapshots [2]*insncount.Snapshots // ours and Linux's
	symbols   *insncount.Symbols
}

func (r *nvmeRig) stop() {
	if r.host != nil {
		r.host.board.Close()
	}
	if r.ours != nil {
		r.ours.Close()
	}
	if r.linux != nil {
		r.linux()
	}
	for _, s := range r.snapshots {
		if s != nil {
			s.Close()
		}
	}
	r.folder.Remove()
}

// Addresses on Linux's wire.
const (
	linuxAddress = "169.254.170.254/24"
	peerNQN      = "nqn.2026-01.test:peer" // bench/nvmet's
)

// nvmeRig starts two boards, under the profiling plugin or not, and a host that is connected
// to both.
func (b *bench) nvmeRig(ctx context.Context, counted bool) (r *nvmeRig, err error) {
	r = &nvmeRig{build: b.build}
	if r.folder, err = tied.NewFolder("nitro-nvme-"); err != nil {
		return nil, err
	}
	if err = b.startNVMe(ctx, r, counted); err != nil {
		r.stop()
		return nil, err
	}
	return r, nil
}

// wire gives the emulator's arguments for one end of a wire: a board's listens.
func (r *nvmeRig) wire(name string) (board, host string) {
	const format = "stream,id=%s,server=%s,addr.type=unix,addr.path=%s"
	path := r.folder.Join(name)
	return fmt.Sprintf(format, name, "on", path), fmt.Sprintf(format, name, "off", path) + ",reconnect-ms=500"
}

func (b *bench) startNVMe(ctx context.Context, r *nvmeRig, counted bool) error {
	image, err := b.image(ctx, metal.Build{Symbols: true}, "./qemu-test/images/nvme", "nvme")
	if err != nil {
		return err
	}
	if r.symbols, err = insncount.ReadSymbols(image); err != nil {
		return err
	}
	var further [2][]string
	if counted {
		plugin, err := insncount.BuildProfiler(ctx, b.build)
		if err != nil {
			return err
		}
		for i, name := range []string{oursName, peerName} {
			out := r.folder.Join("profile-" + name)
			if r.snapshots[i], err = insncount.NewSnapshots(out); err != nil {
				return err
			}
			further[i] = insncount.ProfileArgs(plugin, out, insncount.ProfileOptions{Snap: r.snapshots[i].Pipe()})
		}
	}
	ourBoard, ourHost := r.wire(oursName)
	linuxBoard, linuxHost := r.wire(peerName)
	nic := func(end, name string) []string {
		return []string{"-netdev", end, "-net", "nic,netdev=" + name + ",macaddr=52:54:00:00:00:1" + strconv.Itoa(len(name)%10)}
	}
	r.ours, err = emulator.Start(emulator.Config{Image: image, Args: append(append([]string{"-no-reboot", "-nic", "user"}, nic(ourBoard, oursName)...), further[0]...)})
	if err != nil {
		return err
	}
	if err := b.startNVMet(ctx, r, append(nic(linuxBoard, peerName), further[1]...)); err != nil {
		return err
	}
	if _, err := r.ours.Expect("nvme: listening\r\n", nvmeLimit); err != nil {
		return err
	}
	return b.startHost(ctx, r, ourHost, linuxHost)
}

// nvmeLimit bounds each wait for a machine to come up, and each order.
const nvmeLimit = 4 * time.Minute

// startNVMet starts Linux on the second board. How it ends does not matter: the host says
// what is wrong.
func (b *bench) startNVMet(ctx context.Context, r *nvmeRig, args []string) error {
	program := filepath.Join(b.build, "nvmet-linux")
	if err := b.linuxProgram(ctx, "./qemu-test/bench/nvmet", program); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		res, err := peer.Run(ctx, peer.Job{Program: program, Args: []string{"-encrypted", linuxAddress}, QEMUArgs: args, Limit: time.Hour, Network: true,
			Modules: []string{"configfs", "aes-arm-bs", "xts", "brd", "dm-crypt", "nvmet", "nvmet-tcp"}})
		if ctx.Err() == nil {
			fmt.Fprintf(os.Stderr, "bench: nvmet ended: %v\n%s\n", err, res.Output)
		}
	}()
	r.linux = func() { cancel(); <-ended }
	return nil
}

// startHost boots the x86 host.
func (b *bench) startHost(ctx context.Context, r *nvmeRig, ourWire, linuxWire string) error {
	kernel, initramfs, err := peer.Host{Init: "./qemu-test/bench/nvmehost", Modules: []string{"virtio_net", "crc32c_generic", "nvme-tcp"}}.Make(ctx, r.folder.Path)
	if err != nil {
		return err
	}
	arguments := fmt.Sprintf("%s,eth0,169.254.169.1/24,%s,%s,%s,%s,%s %s,eth1,169.254.170.1/24,169.254.170.254,%s,%s,%s,",
		oursName, door.Wire.Addr(), door.Subsystem, door.HostNQN, door.HostID, door.Secret, peerName, peerNQN, door.HostNQN, door.HostID)
	board, err := emulator.Start(emulator.Config{Image: kernel, Program: emulator.HostProgram, Machine: "q35,accel=tcg", Args: []string{
		"-cpu", "max", "-no-reboot", "-nodefaults", "-initrd", initramfs,
		"-append", "console=ttyS0 quiet reboot=t panic=-1 rdinit=/init -- " + arguments,
		"-serial", "unix:" + r.folder.Join("orders") + ",server=on,wait=off",
		"-netdev", ourWire, "-device", "virtio-net-pci,romfile=,addr=4,netdev=" + oursName + ",mac=52:54:00:00:00:01",
		"-netdev", linuxWire, "-device", "virtio-net-pci,romfile=,addr=5,netdev=" + peerName + ",mac=52:54:00:00:00:02",
	}})
	if err != nil {
		return err
	}
	r.host = &nvmeHost{board: board}
	return r.host.open(r.folder.Join("orders"))
}
