package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// A figure is one line of the result.
type figure struct {
	Name      string  `json:"name"`
	Value     float64 `json:"value"`
	Unit      string  `json:"unit"`
	Peer      string  `json:"peer,omitempty"`
	PeerValue float64 `json:"peer_value,omitempty"`
	Ratio     float64 `json:"ratio,omitempty"`
}

func (f figure) String() string {
	if f.Peer == "" {
		return fmt.Sprintf("%s %.4g %s - - -", f.Name, f.Value, f.Unit)
	}
	return fmt.Sprintf("%s %.4g %s %s %.4g %.3f", f.Name, f.Value, f.Unit, f.Peer, f.PeerValue, f.Ratio)
}

// report prints a figure and keeps it.
func (b *bench) report(f figure) {
	if f.Peer != "" {
		f.Ratio = f.Value / f.PeerValue
	}
	b.figures = append(b.figures, f)
	fmt.Println(f)
}

// write writes the figures to a file.
func (b *bench) write(file string) error {
	out, err := json.MarshalIndent(b.figures, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(out, '\n'), 0o644)
}

// median gives the middle of values, of which there is an odd number.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// parseOrder reads lines of name, value and unit; others are not figures.
func parseOrder(text string) []figure {
	var figures []figure
	for line := range strings.Lines(text) {
		w := strings.Fields(line)
		if len(w) != 3 || !strings.Contains(w[0], ".") {
			continue
		}
		if v, err := strconv.ParseFloat(w[1], 64); err == nil {
			figures = append(figures, figure{Name: w[0], Value: v, Unit: w[2]})
		}
	}
	return figures
}

func parse(text string) map[string]float64 {
	values := map[string]float64{}
	for _, f := range parseOrder(text) {
		values[f.Name] = f.Value
	}
	return values
}
