package metrics_test

import (
	"bytes"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"nitro/net/metrics"
)

// TestText: Prometheus' own parser reads back what was written.
func TestText(t *testing.T) {
	hostile := "a\\b\"c\nd\xff}é"
	text := metrics.Text([]metrics.Family{
		{Name: "one", Help: "back\\slash\nline", Kind: metrics.Gauge, Samples: metrics.One(1.5)},
		{Name: "none", Kind: metrics.Gauge},
		{Name: "two_total", Help: "two", Kind: metrics.Counter, Samples: []metrics.Sample{
			{Value: 1 << 53, Labels: []string{"a", hostile, "b", ""}}, {Value: math.Inf(1), Labels: []string{"a", "x", "b", "y"}}}},
	})
	parser := expfmt.NewTextParser(model.LegacyValidation)
	all, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil || len(all) != 2 {
		t.Fatalf("%v\n%s", err, text)
	}
	if f := all["one"]; f.GetHelp() != "back\\slash\nline" || f.Metric[0].Gauge.GetValue() != 1.5 {
		t.Errorf("%v", f)
	}
	two := all["two_total"].Metric
	if got := two[0].Label[0].GetValue(); got != strings.ToValidUTF8(hostile, "?") || two[0].Counter.GetValue() != 1<<53 || !math.IsInf(two[1].Counter.GetValue(), 1) {
		t.Errorf("%v", two)
	}
}

func TestFind(t *testing.T) {
	text := string(metrics.Text([]metrics.Family{
		{Name: "one", Help: "two 2", Kind: metrics.Gauge, Samples: metrics.One(1.5)},
		{Name: "two_total", Kind: metrics.Counter, Samples: []metrics.Sample{{Value: 7, Labels: []string{"a", "x"}}, {Value: 8, Labels: []string{"a", "y"}}}},
	}))
	for sample, want := range map[string]float64{"one": 1.5, `two_total{a="x"}`: 7, `two_total{a="y"}`: 8} {
		if got, err := metrics.Find(text, sample); err != nil || got != want {
			t.Errorf("%s: %v, %v", sample, got, err)
		}
	}
	for _, sample := range []string{"on", "two", "two_total", `two_total{a="z"}`, ""} {
		if got, err := metrics.Find(text, sample); err == nil {
			t.Errorf("%q: %v", sample, got)
		}
	}
}

func TestMisconfigured(t *testing.T) {
	for name, all := range map[string][]metrics.Family{
		"no name":           {{Name: "a-b", Kind: metrics.Gauge, Samples: metrics.One(1)}},
		"digit first":       {{Name: "1a", Kind: metrics.Gauge, Samples: metrics.One(1)}},
		"twice":             {{Name: "a", Kind: metrics.Gauge, Samples: metrics.One(1)}, {Name: "a", Kind: metrics.Gauge, Samples: metrics.One(1)}},
		"counter's name":    {{Name: "a", Kind: metrics.Counter, Samples: metrics.One(1)}},
		"gauge's name":      {{Name: "a_total", Kind: metrics.Gauge, Samples: metrics.One(1)}},
		"label without":     {{Name: "a", Kind: metrics.Gauge, Samples: []metrics.Sample{{Labels: []string{"x"}}}}},
		"label with a dash": {{Name: "a", Kind: metrics.Gauge, Samples: []metrics.Sample{{Labels: []string{"x-y", ""}}}}},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: written", name)
				}
			}()
			metrics.Text(all)
		}()
	}
}

func TestRequests(t *testing.T) {
	var r metrics.Requests
	h := r.Count("api", http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		switch q.URL.Path {
		case "/no":
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusNotFound)
		case "/silent":
		default:
			w.Write([]byte("x"))
		}
	}))
	for _, path := range []string{"/no", "/silent", "/", "/no"} {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil))
	}
	got := r.Samples()
	if len(got) != 2 || got[0].Value != 2 || got[0].Labels[3] != "200" || got[1].Value != 2 || got[1].Labels[3] != "404" {
		t.Errorf("%v", got)
	}
}
