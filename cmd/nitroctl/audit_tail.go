package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"nitro/net/policy"
	"nitro/net/redfish"
)

// Limits of a tail.
const (
	maxTail  = 2000
	tailPage = 200
	// patienceFirst and patienceMost are how long it waits before it asks again a board that
	// does not answer: at first, and as it doubles, at most.
	patienceFirst = time.Second
	patienceMost  = 30 * time.Second
	// idleMost is how seldom it asks while nothing comes but that others read the log: two
	// that follow it would else each be news to the other, for ever.
	idleMost   = 5 * time.Minute
	maxLog     = 1 << 22 // records that a log can have (docs/audit.md)
	movedLimit = 4       // times that a page is asked for again
)

// A tailInfo is some records.
type tailInfo struct {
	Records    []json.RawMessage `json:"records"`
	Connection connection        `json:"connection"`
}

func (t tailInfo) print(w io.Writer) {
	for _, r := range t.Records {
		fmt.Fprintln(w, printable(string(r)))
	}
	t.Connection.print(w)
}

// A followInfo is where a tail that followed the log has ended.
type followInfo struct {
	Shown      int        `json:"shown"` // records
	Next       uint64     `json:"next"`  // index of the first one that was not
	Connection connection `json:"connection"`
}

func (f followInfo) print(w io.Writer) {
	table(w, [2]string{"shown", fmt.Sprintf("%d records", f.Shown)}, [2]string{"next", fmt.Sprint(f.Next)})
	f.Connection.print(w)
}

// entries is a page of the log's entries.
type entries struct {
	Count   int `json:"Members@odata.count"`
	Members []struct {
		ID      string `json:"Id"`
		Message string
	}
}

// A logReader reads a board's log, record by record in their order.
type logReader struct {
	r     *remote
	first uint64 // index of the first record that is kept, as it was last
	next  uint64 // index of the record to be shown next
	last  string // the one before it, if it was shown
	by    connection
	show  func(record string)
	say   func(format string, args ...any)
	shown int
	news  bool // something else was shown than that somebody reads the log
}

// page asks for some records behind the first ones that are kept.
func (l *logReader) page(skip uint64, top int) (e entries, err error) {
	l.by, err = l.r.call(http.MethodGet, fmt.Sprintf("%s/Entries?$skip=%d&$top=%d", logPath, skip, top), nil, &e, http.StatusOK)
	return e, err
}

// index is the number of a page's first record.
func (l *logReader) index(e *entries) (uint64, error) {
	n, err := strconv.ParseUint(e.Members[0].ID, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("the board at %s gives a record without a number: is it a board?", l.r.address)
	}
	return n, nil
}

// begin finds the record to begin with: from, or if that is negative the last n.
func (l *logReader) begin(from int64, n int) error {
	head, err := l.page(0, 1)
	if err != nil || len(head.Members) == 0 {
		return err
	}
	if l.first, err = l.index(&head); err != nil {
		return err
	}
	l.next = l.first + uint64(max(head.Count-n, 0))
	if from >= 0 {
		if l.next = uint64(from); l.next < l.first {
			return fmt.Errorf("record %d was cleared: the first one is %d", from, l.first)
		}
	}
	return nil
}

// read shows up to most records, a page of them at a time. What it asks is recorded, so a
// page that is not full is the last one.
func (l *logReader) read(most int) error {
	for most > 0 {
		n, full, err := l.readPage(most)
		if err != nil || !full {
			return err
		}
		most -= n
	}
	return nil
}

// readPage shows the next records, most at most. The last one that was shown comes with them,
// and must be what it was: else it is another log. What was cleared meanwhile moves the page,
// which is asked for again a few times.
func (l *logReader) readPage(most int) (shown int, full bool, err error) {
	for range movedLimit {
		known := 0
		if l.last != "" && l.next > l.first {
			known = 1
		}
		want, top := l.next-uint64(known), min(tailPage, most+known)
		e, err := l.page(want-l.first, top)
		if err != nil {
			return 0, false, err
		}
		if len(e.Members) == 0 {
			if e, err = l.page(0, 1); err != nil || len(e.Members) == 0 {
				return 0, false, err
			}
			at, err := l.index(&e)
			switch {
			case err != nil:
				return 0, false, err
			case at > l.first:
				l.moved(at - l.first)
				continue
			case at < l.first, known == 1: // not even the last one: the log is shorter than it was
				l.anew(at)
				return 0, false, nil
			}
			return 0, false, nil
		}
		at, err := l.index(&e)
		switch {
		case err != nil:
			return 0, false, err
		case at > want:
			l.moved(at - want)
			continue
		case at < want, known == 1 && e.Members[0].Message != l.last:
			l.anew(0)
			return 0, false, nil
		}
		for _, m := range e.Members[known:] {
			if err := l.take(m.ID, m.Message); err != nil {
				return shown, false, err
			}
			shown++
		}
		return shown, len(e.Members) >= top, nil
	}
	return 0, false, fmt.Errorf("the board at %s clears its log faster than it can be read: ask again", l.r.address)
}

// moved is told that so many of the first records were cleared since the last page.
func (l *logReader) moved(n uint64) {
	if l.first += n; l.first > l.next {
		l.say("records %d to %d were cleared before they were seen", l.next, l.first-1)
		l.next, l.last = l.first, ""
	}
}

// take shows a record.
func (l *logReader) take(id, record string) error {
	if !json.Valid([]byte(record)) || id != fmt.Sprint(l.next) {
		return fmt.Errorf("the board at %s gives a record %s that is no JSON, or is not number %d: is it a board?", l.r.address, printable(id), l.next)
	}
	var asked struct{ Action policy.Action }
	if json.Unmarshal([]byte(record), &asked) != nil || asked.Action != policy.ReadLog {
		l.news = true
	}
	l.show(record)
	l.last = record
	l.next++
	l.shown++
	return nil
}

// anew begins with a log that is not the one that was read so far, and begins there or,
// which the next page then says, later.
func (l *logReader) anew(first uint64) {
	if l.next > 0 {
		l.say("the log begins anew: it is not the one whose record %d was shown", l.next-1)
	}
	l.first, l.next, l.last = first, first, ""
}

// errNoLog: the board has none that can be read.
var errNoLog = advised{errors.New("the board has no audit log now"), "nitroctl status says how it stands; in quarantine, nitroctl audit export -ring has its records."}

// size is how many records the log has had, by the board's metrics: reading those is
// recorded once in an hour, and reading the log each time.
func (l *logReader) size() (uint64, error) {
	a, err := l.r.ask(http.MethodGet, redfish.MetricsPath, "", nil)
	if err != nil {
		return 0, err
	}
	if a.status != http.StatusOK {
		return 0, a.redfishRefusal()
	}
	s := bufio.NewScanner(bytes.NewReader(a.body))
	for s.Scan() {
		if value, ok := strings.CutPrefix(s.Text(), "nitro_audit_records_total "); ok {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil || n < 0 || n > maxLog {
				return 0, fmt.Errorf("the board at %s says that its log has %q records: is it a board?", l.r.address, printable(value))
			}
			return uint64(n), nil
		}
	}
	return 0, errNoLog
}

// follow shows what comes until the context ends, which is no error. A board that does not
// answer, or refuses (it does until it knows the time), has so long to come back.
func (l *logReader) follow(ctx context.Context, every, patience time.Duration) error {
	var away time.Time // since when it does not answer; zero if it does
	wait := every
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		before := l.shown
		l.news = false
		err := l.more()
		var refused *apiError
		var silent *unreachableError
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil && !away.IsZero():
			l.say("the board answers again")
			away, wait = time.Time{}, every
		case err == nil && l.news:
			wait = every
		case err == nil && l.shown > before:
			wait = max(every, min(2*wait, idleMost))
		case err == nil:
		case errors.Is(err, errPin), !errors.As(err, &silent) && !errors.As(err, &refused), isMissing(err):
			return err
		case away.IsZero():
			l.say("%v: it has %v to come back", err, patience)
			away, wait = time.Now(), min(every, patienceFirst)
		case time.Since(away) > patience:
			return err
		default:
			wait = min(2*wait, patienceMost)
		}
	}
}

// more shows what has come. Behind the last page is the outcome of having asked for it,
// which is not worth asking for by itself.
func (l *logReader) more() error {
	size, err := l.size()
	if err != nil || size == l.next || l.last != "" && size == l.next+1 {
		return err
	}
	return l.read(maxTail)
}

func auditTail(f *flag.FlagSet) func(*call) (result, error) {
	board := apiFlags(f)
	n := f.Int("n", 20, "how `many` records, 2,000 at most")
	from := f.Int64("from", -1, "`index` of the first one, instead of the last ones")
	follow := f.Bool("follow", false, "go on with what comes, until Ctrl-C: each record is a line")
	every := f.Duration("every", 5*time.Second, "with -follow: `time` between two questions")
	patience := f.Duration("patience", 10*time.Minute, "with -follow: `time` that a board may be away")
	return func(c *call) (result, error) {
		switch {
		case *n < 1 || *n > maxTail:
			return nil, usage("-n %d: 1 to %d", *n, maxTail)
		case *every < time.Second || *patience < 0:
			return nil, usage("-every %v, -patience %v: at least 1s and 0s", *every, *patience)
		}
		r, err := board()
		if err != nil {
			return nil, err
		}
		if *follow {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return followLog(ctx, r, c, *from, *n, *every, *patience)
		}
		t := tailInfo{Records: []json.RawMessage{}}
		l := logReader{r: r, say: c.say, show: func(record string) { t.Records = append(t.Records, json.RawMessage(record)) }}
		if err = l.begin(*from, *n); err == nil {
			err = l.read(*n)
		}
		if err != nil {
			return nil, err
		}
		t.Connection = l.by
		return t, nil
	}
}

// followLog shows the log until the context ends.
func followLog(ctx context.Context, r *remote, c *call, from int64, n int, every, patience time.Duration) (result, error) {
	r.ctx = ctx
	l := logReader{r: r, say: c.say, show: func(record string) { c.line(printable(record)) }}
	err := l.begin(from, n)
	if err == nil {
		if err = l.read(n); err == nil {
			err = l.follow(ctx, every, patience)
		}
	}
	if err != nil && ctx.Err() == nil {
		return nil, err
	}
	return followInfo{l.shown, l.next, l.by}, nil
}
