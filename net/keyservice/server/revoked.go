package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// revokedSize is that of a file: 20 digits and a newline.
const revokedSize = 21

// revoked are control planes that were revoked, in a folder, a file each, which has when:
// all that a name had until then is void, and what it gets later counts. They are read at
// each use, so that a running service need not be told.
type revoked struct{ folder string }

// when gives the time until which all of a name is void; 0 if it never was revoked.
func (r revoked) when(name string) (seconds int64, err error) {
	path := filepath.Join(r.folder, name)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if len(b) == revokedSize {
		seconds, err = strconv.ParseInt(string(b[:revokedSize-1]), 10, 64)
	}
	if err != nil || len(b) != revokedSize || seconds < 0 {
		return 0, fmt.Errorf("%s is damaged: revoke %s again", path, name)
	}
	return seconds, nil
}

// void tells whether what a name had from a time is void.
func (r revoked) void(name string, since time.Time) (bool, error) {
	seconds, err := r.when(name)
	return seconds > 0 && since.Unix() <= seconds, err
}

// add revokes a name. The time never goes back, or what was void would count again.
func (r revoked) add(name string, now time.Time) error {
	seconds := now.Unix()
	if before, err := r.when(name); err == nil { // a damaged file is replaced
		seconds = max(seconds, before)
	}
	return replace(filepath.Join(r.folder, name), fmt.Appendf(nil, "%020d\n", seconds))
}

// after gives when what is issued to a name counts: now, or a second after it was revoked.
func (r revoked) after(name string, now time.Time) (time.Time, error) {
	seconds, err := r.when(name)
	return time.Unix(max(now.Unix(), seconds+1), 0), err
}
