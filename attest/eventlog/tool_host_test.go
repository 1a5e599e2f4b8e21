//go:build !arm

package eventlog

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestStockTool has tpm2-tools read the log and compares PCRs.
func TestStockTool(t *testing.T) {
	l := bootLog(t)
	file := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(file, l.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("tpm2_eventlog", file).CombinedOutput()
	if err != nil {
		t.Fatalf("tpm2_eventlog (Debian's tpm2-tools, which internal/deps/install.sh installs): %v\n%s", err, out)
	}
	_, said, _ := strings.Cut(string(out), "\npcrs:\n")
	n := 0
	for pcr, want := range l.Replay() {
		if want == (Digest{}) {
			continue
		}
		n++
		if !regexp.MustCompile(fmt.Sprintf(`(?m)^ +%d +: 0x%x$`, pcr, want)).MatchString(said) {
			t.Errorf("PCR %d is %x here; tpm2_eventlog says\n%s", pcr, want, said)
		}
	}
	// PCR 23 is there or not: see toldPCR.
	if lines := len(regexp.MustCompile(`(?m)^ +([0-9]|1[0-9]) +: 0x`).FindAllString(said, -1)); n != 9 || lines != n {
		t.Errorf("%d PCRs, tpm2_eventlog has %d", n, lines)
	}
	if !strings.Contains(string(out), "nitro controller sha256=") || strings.Count(string(out), "EventNum") != 1+len(boot) {
		t.Errorf("tpm2_eventlog does not show the events:\n%s", out)
	}
}
