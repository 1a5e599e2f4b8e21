package main

import (
	"runtime"
	"runtime/metrics"
	"slices"
	"strconv"
	"time"

	"nitro/board/phase"
	"nitro/boot/code"
	text "nitro/net/metrics"
	"nitro/net/standing"
	"nitro/nvme/storage"
)

// Metrics implements redfish.Metrics: docs/metrics.md lists them.
func (f *firmware) Metrics() ([]byte, error) {
	var all []text.Family
	for _, part := range []func() []text.Family{
		f.boardMetrics, f.apiMetrics, f.auditMetrics, f.storeMetrics, f.timeMetrics, f.hostMetrics, f.volumeMetrics, memoryMetrics, f.networkMetrics,
	} {
		all = append(all, part()...)
	}
	return text.Text(all), nil
}

func gauge(name, help string, samples []text.Sample) text.Family {
	return text.Family{Name: "nitro_" + name, Help: help, Kind: text.Gauge, Samples: samples}
}

func total(name, help string, samples []text.Sample) text.Family {
	return text.Family{Name: "nitro_" + name + "_total", Help: help, Kind: text.Counter, Samples: samples}
}

// labelled makes samples of one label.
func labelled(label string, pairs ...any) (all []text.Sample) {
	for i := 0; i < len(pairs); i += 2 {
		all = append(all, text.Sample{Value: pairs[i+1].(float64), Labels: []string{label, pairs[i].(string)}})
	}
	return all
}

func (f *firmware) boardMetrics() []text.Family {
	why := f.reason()
	info := []text.Sample{{Value: 1, Labels: []string{"board", f.board.Name(), "version", f.version, "emulated", strconv.FormatBool(f.board.Emulated())}}}
	f.mu.Lock()
	phases := slices.Clone(f.phases)
	f.mu.Unlock()
	boot := []text.Sample{}
	for _, p := range phases {
		boot = append(boot, labelled("phase", p.name, p.took.Seconds())...)
	}
	c := phase.Count()
	tpm := -1.0
	if why == nil && f.chain.T != nil {
		tpm = text.Yes(f.tpmTrouble.Load() == nil)
	}
	families := []text.Family{
		gauge("info", "The board and what runs on it.", info),
		gauge("quarantine", "The code of the quarantine that the board is in (docs/codes.md), or 0.", text.One(float64(code.Of(why)))),
		gauge("uptime_seconds", "Time since the controller began.", text.One(f.up().Seconds())),
		gauge("boot_phase_seconds", "What the phases of this boot took.", boot),
		gauge("kernel_memory_bytes", "Memory that the kernel has given away.", text.One(float64(c["pages.used"]*4096))),
		gauge("kernel_threads", "Threads of the kernel.", text.One(float64(c["threads"]))),
		total("kernel_interrupts", "Interrupts that the kernel has served.", text.One(float64(c["interrupts"]))),
	}
	if tpm >= 0 {
		families = append(families, gauge("tpm_healthy", "1 if the TPM was the one of this boot, and answered, when it was asked last.", text.One(tpm)))
	}
	return families
}

func (f *firmware) apiMetrics() []text.Family {
	n := f.refused()
	return []text.Family{
		total("requests", "Requests by class of route and status of the answer.", f.requests.Samples()),
		total("tls_handshakes", "TLS handshakes that came to their end.", text.One(float64(f.handshakes.Load()))),
		total("refused", "What was refused before it was known who asks, by reason.", labelled("reason",
			"busy", float64(n.Busy), "certificate", float64(n.Certificate), "principal", float64(n.Principal), "request", float64(n.Request), "tls", float64(n.TLS))),
	}
}

func (f *firmware) auditMetrics() []text.Family {
	if f.log == nil || f.reason() != nil {
		return nil
	}
	s := f.log.Stats()
	families := []text.Family{
		total("audit_records", "Records of the audit log since it began.", text.One(float64(s.Size))),
		gauge("audit_kept", "Records that are kept.", text.One(float64(s.Size-s.First))),
		gauge("audit_signed", "Records that the last checkpoint covers.", text.One(float64(s.Signed))),
		gauge("audit_witnessed", "Records that a witness has cosigned.", text.One(float64(s.Witnessed))),
		gauge("audit_room", "Records for which there is room, the reserve included.", text.One(float64(s.Room))),
		gauge("audit_unrecorded", "What was done or refused and is not recorded yet.", text.One(float64(s.Lost))),
		gauge("audit_stuck", "1 if no segment can be made.", text.One(text.Yes(s.Stuck != nil))),
	}
	if f.sender == nil {
		return families
	}
	t := f.sender.Stats()
	return append(families,
		gauge("syslog_connected", "1 while the collector is connected.", text.One(text.Yes(t.Connected))),
		gauge("syslog_waiting", "Records that the collector may not have.", text.One(float64(max(s.Size, t.Settled)-t.Settled))),
		total("syslog_sent", "Messages sent, those sent again included.", text.One(float64(t.Sent))),
		total("syslog_skipped", "Records that were cleared before they were sent.", text.One(float64(t.Skipped))),
		total("syslog_failures", "Connections to the collector that failed or ended.", text.One(float64(t.Failures))))
}

func (f *firmware) storeMetrics() []text.Family {
	if f.chain.Store == nil || f.reason() != nil {
		return nil
	}
	s := f.chain.Store.Stats()
	return []text.Family{
		gauge("store_records", "Records in the store.", text.One(float64(s.Records))),
		gauge("store_segments", "Segments of the store by state.", labelled("state",
			"free", float64(s.Free), "data", float64(s.Data), "log", float64(s.Log), "bad", float64(s.Bad))),
		gauge("store_replayable", "Records put that could be replayed away.", text.One(float64(s.Exposed))),
		total("store_batches", "Batches committed since the store was formatted.", text.One(float64(s.Commits))),
		total("store_checkpoints", "Checkpoints of the store since it was opened.", text.One(float64(s.Checkpoints))),
		total("store_counter_steps", "Steps of the TPM's freshness counter since the store was opened.", text.One(float64(s.Steps))),
		total("store_sectors_read", "Sectors read.", text.One(float64(s.SectorsRead))),
		total("store_sectors_written", "Sectors written.", text.One(float64(s.SectorsWritten))),
	}
}

func (f *firmware) volumeMetrics() []text.Family {
	s := f.volumes.Load()
	if s == nil || f.reason() != nil {
		return nil
	}
	there, attached := map[storage.Kind]float64{}, map[storage.Kind]float64{}
	var shortest []text.Sample
	for _, v := range s.Volumes() {
		there[v.Kind]++
		if v.Attached {
			attached[v.Kind]++
			if left := v.Left.Seconds(); shortest == nil || left < shortest[0].Value {
				shortest = text.One(left)
			}
		}
	}
	kinds := func(n map[storage.Kind]float64) []text.Sample {
		return labelled("kind", string(storage.Pool), n[storage.Pool], string(storage.RAM), n[storage.RAM], string(storage.Remote), n[storage.Remote])
	}
	var capacity, free []any
	for kind, space := range s.Spaces() {
		capacity, free = append(capacity, string(kind), float64(space.Total)), append(free, string(kind), float64(space.Free))
	}
	return []text.Family{
		gauge("volumes", "Volumes by kind.", kinds(there)),
		gauge("volumes_attached", "Volumes that the host sees, by kind.", kinds(attached)),
		gauge("volume_space_bytes", "Space for volumes, by kind.", labelled("kind", capacity...)),
		gauge("volume_free_bytes", "Space for volumes that is free, by kind.", labelled("kind", free...)),
		gauge("lease_left_seconds", "What is left of the lease that ends first; missing where no volume is attached.", shortest),
		total("leases_renewed", "Leases of attached volumes that got a later end.", text.One(float64(f.leasesRenewed.Load()))),
		total("leases_not_renewed", "Questions to the key service that did not renew a lease.", text.One(float64(f.leasesNotRenewed.Load()))),
		gauge("volume_events_lost", "Events of volumes that were not recorded in time.", text.One(float64(f.volumeEventsLost.Load()))),
		total("volume_refused", "What was refused on the host's wire.", labelled("reason", "connection", float64(f.refusedHosts.connection.Load()),
			"authentication", float64(f.refusedHosts.authentication.Load()), "protocol", float64(f.refusedHosts.protocol.Load()))),
	}
}

func (f *firmware) timeMetrics() []text.Family {
	families := []text.Family{
		gauge("time_known", "1 if the time is known.", text.One(text.Yes(f.clock.Known()))),
		gauge("time_floor_seconds", "The time that has passed for sure, since 1970.", text.One(float64(f.clock.Floor().Unix()))),
		gauge("time_seconds", "The board's clock, since 1970.", text.One(float64(time.Now().Unix()))),
	}
	if c := f.chain.Configuration(); c != nil && len(c.TimeServers) > 0 {
		families = append(families, gauge("time_servers_agree", "Time servers that have agreed last.", text.One(float64(f.timeAgree.Load()))),
			total("time_failures", "Questions to the time servers that set nothing.", text.One(float64(f.timeFailures.Load()))))
	}
	return families
}

func (f *firmware) hostMetrics() []text.Family {
	h := f.hostStatus()
	if h == nil {
		h = &standing.Host{State: "not guarded"}
	}
	return []text.Family{
		gauge("host_state", "1, with the phase of the host's control.", labelled("state", h.State, 1.0)),
		gauge("host_cycle", "The last host cycle that was counted.", text.One(float64(h.Cycle))),
		gauge("host_running", "1 if the host is not held and has power.", text.One(text.Yes(h.Running))),
		gauge("host_powered", "1 if the host has power.", text.One(text.Yes(h.Power))),
		gauge("host_adopted", "1 if an earlier boot of the controller released the host.", text.One(text.Yes(h.Adopted))),
		gauge("host_code", "Why the host is held though it should run (docs/codes.md), or 0.", text.One(float64(h.Code))),
	}
}

func memoryMetrics() []text.Family {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(live)
	return []text.Family{
		gauge("go_heap_live_bytes", "Bytes of the heap that the last collection found in use.", text.One(float64(live[0].Value.Uint64()))),
		gauge("go_heap_bytes", "Bytes of the heap's objects, those that are dead and not swept included.", text.One(float64(live[1].Value.Uint64()))),
		total("go_collections", "Garbage collections.", text.One(float64(live[2].Value.Uint64()))),
		gauge("go_goroutines", "Goroutines.", text.One(float64(runtime.NumGoroutine()))),
	}
}

func (f *firmware) networkMetrics() []text.Family {
	families := []text.Family{
		total("network_received_bytes", "Bytes of whole frames received.", nil),
		total("network_sent_bytes", "Bytes of whole frames sent.", nil),
		total("network_received_frames", "Frames received.", nil),
		total("network_sent_frames", "Frames sent.", nil),
		total("network_dropped_frames", "Frames received of no protocol spoken here, or for others.", nil),
		total("network_errors", "Errors of the link, either way.", nil),
		total("network_checksum_errors", "Wrong checksums of TCP and UDP.", nil),
		total("network_retransmissions", "Segments of TCP sent again.", nil),
		total("network_connections", "Connections of TCP opened, by either side.", nil),
		total("network_listen_dropped", "Attempts to connect that found the backlog full.", nil),
	}
	for _, p := range f.ports {
		s := p.Stats()
		for i, v := range []uint64{s.BytesReceived, s.BytesSent, s.FramesReceived, s.FramesSent, s.FramesDropped,
			s.ReceiveErrors + s.SendErrors, s.ChecksumErrors, s.Retransmissions, s.ConnectionsTotal, s.ListenDropped} {
			families[i].Samples = append(families[i].Samples, labelled("port", p.Name(), float64(v))...)
		}
	}
	return families
}
