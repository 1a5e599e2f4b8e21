// Package metrics writes counters and states in Prometheus' text format 0.0.4
// (prometheus.io/docs/instrumenting/exposition_formats), and counts requests.
//
// Prometheus' own client adds 2.7 MB to the firmware (with protocol buffers and
// reflection); this adds some KiB. Its parser reads what this writes, in tests.
//
// # What is left out
//
// Histograms, summaries, exemplars, timestamps, OpenMetrics, compression: a board's page
// has some 100 lines, and who collects it keeps the time.
package metrics

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// A Kind is a metric's type.
type Kind string

// The kinds.
const (
	Counter Kind = "counter" // only grows, from 0 at the boot
	Gauge   Kind = "gauge"
)

// A Family is a metric with its samples.
type Family struct {
	Name    string // of a counter with _total at its end
	Help    string
	Kind    Kind
	Samples []Sample
}

// A Sample is a value with its labels, name and value in turn.
type Sample struct {
	Value  float64
	Labels []string
}

// One is the sample of a metric that has but one.
func One(v float64) []Sample { return []Sample{{Value: v}} }

// Yes is 1 for true.
func Yes(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// Find finds the value of a sample, named with its labels as in text that [Text] wrote.
func Find(text, sample string) (float64, error) {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, sample+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("metrics: no %s", sample)
}

// Text writes families in their order; one without samples is left out. It panics if a
// name is none: names are the program's own.
func Text(all []Family) []byte {
	var b bytes.Buffer
	seen := map[string]bool{}
	for _, f := range all {
		if len(f.Samples) == 0 {
			continue
		}
		if !isName(f.Name, ":") || seen[f.Name] || (f.Kind == Counter) != strings.HasSuffix(f.Name, "_total") {
			panic(fmt.Sprintf("metrics: %s %q: no name, one that is there twice, or _total at the wrong end", f.Kind, f.Name))
		}
		seen[f.Name] = true
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", f.Name, help.Replace(f.Help), f.Name, f.Kind)
		for _, s := range f.Samples {
			b.WriteString(f.Name)
			writeLabels(&b, s.Labels)
			b.WriteByte(' ')
			b.WriteString(strconv.FormatFloat(s.Value, 'g', -1, 64))
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

// Escapes of the format.
var (
	help  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	value = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)

func writeLabels(b *bytes.Buffer, labels []string) {
	if len(labels)%2 != 0 {
		panic(fmt.Sprintf("metrics: labels %q: a value is missing", labels))
	}
	for i := 0; i < len(labels); i += 2 {
		if !isName(labels[i], "") {
			panic(fmt.Sprintf("metrics: label %q is no name", labels[i]))
		}
		sep := byte(',')
		if i == 0 {
			sep = '{'
		}
		b.WriteByte(sep)
		fmt.Fprintf(b, `%s="%s"`, labels[i], value.Replace(strings.ToValidUTF8(labels[i+1], "?")))
	}
	if len(labels) > 0 {
		b.WriteByte('}')
	}
}

// isName reports whether a name is one of the format's; more are further characters.
func isName(s, more string) bool {
	for i, c := range []byte(s) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || strings.IndexByte(more, c) >= 0
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// Requests counts requests by the class of their route and the status of their answer.
type Requests struct {
	mu     sync.Mutex
	counts map[request]uint64
}

type request struct {
	class  string
	status int
}

// Count has a handler's requests counted under a class, of which there are few.
func (r *Requests) Count(class string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		s := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		defer func() { r.add(class, s.status) }()
		h.ServeHTTP(s, q)
	})
}

func (r *Requests) add(class string, status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts == nil {
		r.counts = map[request]uint64{}
	}
	r.counts[request{class, status}]++
}

// Samples are the counts, sorted.
func (r *Requests) Samples() []Sample {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]Sample, 0, len(r.counts))
	for q, n := range r.counts {
		all = append(all, Sample{float64(n), []string{"class", q.class, "status", strconv.Itoa(q.status)}})
	}
	slices.SortFunc(all, func(a, b Sample) int { return slices.Compare(a.Labels, b.Labels) })
	return all
}

// A statusWriter remembers the status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(status int) {
	if status >= 200 { // 1xx come before the answer
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
