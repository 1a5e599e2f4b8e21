// Package door is what image nvme and its hosts have to agree upon.
package door

import "net/netip"

const (
	Port      = 4420
	Subsystem = "nqn.2026-01.test:board"
	HostNQN   = "nqn.2014-08.org.nvmexpress:uuid:" + HostID
	HostID    = "11111111-2222-3333-4444-555555555555"

	// Secret is the host's, an example of nvme-cli's.
	Secret = "DHHC-1:01:27vup6MiNIrRNURxNQBW6Uee719bsCNAposWDyO20PyLLMUQ:"
)

// Wire is the board's address on it.
var Wire = netip.MustParsePrefix("169.254.169.254/24")
