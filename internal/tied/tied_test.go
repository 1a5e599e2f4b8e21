//go:build !arm

package tied

import (
	"os"
	"runtime"
	"testing"
	"time"
)

// TestSweep: a folder that a process has left goes with the next one; one that is in use
// stays, and so does one that may not be locked yet.
func TestSweep(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	used, err := NewFolder("x-")
	if err != nil {
		t.Fatal(err)
	}
	left, err := os.MkdirTemp("", "x-")
	if err != nil {
		t.Fatal(err)
	}
	young, err := os.MkdirTemp("", "x-")
	if err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	for _, path := range []string{used.Path, left} {
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	next, err := NewFolder("x-")
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{used.Path: true, young: true, next.Path: true, left: false} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s is there: %t, want %t", path, err == nil, want)
		}
	}
	if err := used.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(used.Path); !os.IsNotExist(err) {
		t.Errorf("a removed folder: %v", err)
	}
}

// TestFolderKept: a folder stays locked when its maker has kept nothing but its path.
func TestFolderKept(t *testing.T) {
	path := func() string {
		f, err := NewFolder("nitro-tied-test-")
		if err != nil {
			t.Fatal(err)
		}
		return f.Path
	}()
	defer os.RemoveAll(path)
	for range 3 {
		runtime.GC()
		time.Sleep(10 * time.Millisecond) // finalizers have a goroutine of their own
	}
	if lock, err := lockFolder(path); err == nil {
		lock.Close()
		t.Error("the lock is gone")
	}
}
