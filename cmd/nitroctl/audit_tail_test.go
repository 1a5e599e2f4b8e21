package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"nitro/net/https"
	"nitro/net/provisioning"
)

// A fakeLog is the log of a board that records, as boards do, each time that it is read.
type fakeLog struct {
	mu      sync.Mutex
	name    string // of this log, in each record
	first   int    // index of the first record that is kept
	size    int
	notes   map[int]string // what records say that are none of reading
	pages   int            // that were asked for
	refuses int            // answers that are refusals, from now on
	none    bool           // it is in quarantine
}

func (l *fakeLog) record(n int) string {
	if note := l.notes[n]; note != "" {
		return fmt.Sprintf(`{"n":%d,"action":"resetHost","detail":"%s %s"}`, n, l.name, note)
	}
	return fmt.Sprintf(`{"n":%d,"action":"readLog","detail":"%s"}`, n, l.name)
}

// note adds a record that is none of reading.
func (l *fakeLog) note(texts ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, text := range texts {
		l.notes[l.size] = text
		l.size++
	}
}

// change changes the log.
func (l *fakeLog) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

func (l *fakeLog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.refuses > 0:
		l.refuses--
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"error":{"code":"Base.1.18.InsufficientPrivilege","@Message.ExtendedInfo":[{"Message":"The time is not known.","Resolution":"Wait."}]}}`)
	case r.URL.Path == "/metrics" && l.none:
		fmt.Fprint(w, "nitro_quarantine 602\n")
	case r.URL.Path == "/metrics":
		fmt.Fprintf(w, "# HELP nitro_audit_records_total Records.\nnitro_audit_records_total %s\n", strconv.FormatFloat(float64(l.size), 'g', -1, 64))
	case r.URL.Path == logPath+"/Entries":
		l.pages++
		l.size++ // the intent
		skip, _ := strconv.Atoi(r.URL.Query().Get("$skip"))
		top, _ := strconv.Atoi(r.URL.Query().Get("$top"))
		var all []string
		for n := l.first + skip; n < l.size && len(all) < min(top, 200); n++ {
			all = append(all, fmt.Sprintf(`{"Id":"%d","Message":%q}`, n, l.record(n)))
		}
		fmt.Fprintf(w, `{"Members@odata.count":%d,"Members":[%s]}`, l.size-l.first, strings.Join(all, ","))
		l.size++ // the outcome
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// A follower follows a log in a goroutine, and has what it has shown and said.
type follower struct {
	t    *testing.T
	mu   sync.Mutex
	told []string // what was shown, and said
	info followInfo
	err  error
	stop context.CancelFunc
	end  chan struct{}
}

// followFake follows what a remote has, from the last n records on.
func followFake(t *testing.T, r *remote, n int) *follower {
	ctx, stop := context.WithCancel(t.Context())
	f := &follower{t: t, stop: stop, end: make(chan struct{})}
	tell := func(text string) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.told = append(f.told, text)
	}
	c := &call{line: tell, say: func(format string, args ...any) { tell(fmt.Sprintf(format, args...)) }}
	go func() {
		defer close(f.end)
		var result result
		if result, f.err = followLog(ctx, r, c, -1, n, 10*time.Millisecond, time.Minute); f.err == nil {
			f.info = result.(followInfo)
		}
	}()
	t.Cleanup(func() { stop(); <-f.end })
	return f
}

// all is what was told so far.
func (f *follower) all() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.told)
}

// tells waits until something was told.
func (f *follower) tells(want string) {
	f.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		told := f.all()
		if slices.ContainsFunc(told, func(text string) bool { return strings.Contains(text, want) }) {
			return
		}
		if time.Now().After(end) {
			f.t.Fatalf("%q is not told, but\n%s", want, strings.Join(told, "\n"))
		}
	}
}

// serveLog serves a log with a certificate, at an address that may have been served before.
func serveLog(t *testing.T, address string, certificate tls.Certificate, l *fakeLog) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	must(t, err)
	t.Cleanup(func() { listener.Close() })
	identity := &https.Identity{Certificate: certificate}
	go https.Serve(listener, https.Config{Identity: func() *https.Identity { return identity }, Routes: []https.Route{{Pattern: "/", Handler: l, Open: true}}})
	return listener
}

// newFakeLog serves a log of so many records.
func newFakeLog(t *testing.T, size int) (*fakeLog, net.Listener, tls.Certificate, *remote) {
	l := &fakeLog{name: "one", notes: map[int]string{}}
	for n := range size {
		l.note(fmt.Sprintf("old %d", n))
	}
	own := selfSigned(t)
	listener := serveLog(t, "127.0.0.1:0", own, l)
	pin := provisioning.KeyDigest(own.Leaf)
	return l, listener, own, &remote{address: listener.Addr().String(), pin: &pin, limit: time.Minute}
}

// TestFollow: each record is shown once and in order, over pages, refusals and a lost
// connection; nothing is asked while nothing comes; it ends without an error.
func TestFollow(t *testing.T) {
	l, listener, own, r := newFakeLog(t, 500)
	f := followFake(t, r, 450)
	f.tells("old 499")
	l.note("first")
	f.tells("first")
	l.change(func() { l.refuses = 2 })
	f.tells("has 1m0s to come back")
	f.tells("the board answers again")
	listener.Close()
	l.note("while it was away", "and more")
	serveLog(t, listener.Addr().String(), own, l)
	f.tells("and more")

	var pages int
	l.change(func() { pages = l.pages })
	time.Sleep(200 * time.Millisecond) // twenty questions
	l.change(func() {
		if l.pages > pages+1 { // one may have been under way
			t.Errorf("%d pages are asked for while nothing comes", l.pages-pages)
		}
	})
	f.stop()
	<-f.end
	if f.err != nil {
		t.Fatal(f.err)
	}
	const first = 51 // the last one of the 450 says that the log is being read
	next := first
	for _, text := range f.told {
		if strings.HasPrefix(text, "{") {
			if !strings.HasPrefix(text, fmt.Sprintf(`{"n":%d,`, next)) {
				t.Fatalf("record %d is shown as %s", next, text)
			}
			next++
		}
	}
	if f.info.Next != uint64(next) || f.info.Shown != next-first || !f.info.Connection.Verified {
		t.Errorf("%+v, and %d was next", f.info, next)
	}
}

// TestFollowChanges: what was cleared unseen, and a log that begins anew, are said; a board
// that has another key, or no log, ends it.
func TestFollowChanges(t *testing.T) {
	l, listener, _, r := newFakeLog(t, 10)
	f := followFake(t, r, 5)
	f.tells("old 9")
	l.note("seen")
	f.tells("seen")
	l.change(func() { l.first = l.size - 1 }) // all but the last, which was shown
	l.note("behind what was cleared")
	f.tells("behind what was cleared")
	l.change(func() {
		for range 7 {
			l.notes[l.size] = "never seen"
			l.size++
		}
		l.first = l.size
	})
	l.note("kept")
	f.tells("were cleared before they were seen")
	f.tells("kept")
	l.change(func() {
		at := l.size + 50 // of a hundred, the first half is cleared
		for range 100 {
			l.notes[l.size] = "one of many"
			if l.size < at {
				l.notes[l.size] = "never seen"
			}
			l.size++
		}
		l.first = at
	})
	l.note("behind many")
	f.tells("behind many")
	if n := strings.Count(strings.Join(f.all(), ""), "were cleared before"); n != 2 {
		t.Errorf("%d times it is said that records were cleared", n)
	}
	l.change(func() { l.name, l.first, l.size, l.notes = "two", 0, 0, map[int]string{} })
	l.note("of another log")
	f.tells("the log begins anew")
	f.tells("two of another log")
	// The next one grows longer than this one was before it is looked at.
	l.change(func() {
		l.name, l.notes = "three", map[int]string{l.size + 40: "far"}
		l.size += 41
	})
	f.tells("three far")
	f.tells(`{"n":0,"action":"readLog","detail":"three"}`)
	for _, text := range f.told {
		if strings.Contains(text, "never seen") {
			t.Errorf("%s was cleared", text)
		}
	}

	listener.Close()
	serveLog(t, listener.Addr().String(), selfSigned(t), l)
	<-f.end
	if f.err == nil || !strings.Contains(f.err.Error(), "is not the pinned one") || explain(f.err).Next == "" {
		t.Errorf("another key: %v", f.err)
	}

	l, _, _, r = newFakeLog(t, 10)
	f = followFake(t, r, 5)
	f.tells("old 9")
	l.change(func() { l.none = true })
	<-f.end
	if f.err == nil || !strings.Contains(explain(f.err).Next, "-ring") {
		t.Errorf("in quarantine: %v", f.err)
	}
}

// TestFollowEachOther: two that follow one log are no news to each other for ever.
func TestFollowEachOther(t *testing.T) {
	l, _, _, r := newFakeLog(t, 3)
	second := *r
	followFake(t, r, 50).tells("old 2")
	f := followFake(t, &second, 50)
	f.tells("old 2")
	time.Sleep(500 * time.Millisecond) // fifty questions of each
	l.change(func() {
		if l.pages > 40 {
			t.Errorf("%d pages were asked for", l.pages)
		}
	})
	l.note("news")
	f.tells("news")
}

// TestTail: flags, and what people and programs see.
func TestTail(t *testing.T) {
	b := newBench(t)
	l, _, _, r := newFakeLog(t, 300)
	b.savePair("client", selfSigned(t))
	as := fmt.Sprintf(" -cert @client.pem -key @client.key -board %s -pin %x", r.address, *r.pin)
	var info tailInfo
	b.json("audit tail -n 250"+as, exitOK, &info)
	if len(info.Records) != 250 || !bytes.Contains(info.Records[249], []byte("readLog")) || !bytes.Contains(info.Records[248], []byte("old 299")) {
		t.Errorf("%d records, the last %s", len(info.Records), info.Records[len(info.Records)-1])
	}
	l.change(func() { l.first = 20 })
	for line, want := range map[string]struct {
		exit int
		says string
	}{
		"audit tail -from 20 -n 1": {exitOK, ""}, "audit tail -from 19": {exitRefused, "was cleared"}, "audit tail -n 0": {exitUsage, "1 to 2000"},
		"audit tail -follow -every 1ms": {exitUsage, "-every"}, "audit tail -follow -patience -1s": {exitUsage, "-patience"},
	} {
		if exit, _, said := b.run(line + as); exit != want.exit || !strings.Contains(said, want.says) {
			t.Errorf("%s: %d %s", line, exit, said)
		}
	}
}
