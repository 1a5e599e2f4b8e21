package ijson

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

type sample struct {
	Epoch uint64   `json:"epoch"`
	Name  string   `json:"name"`
	Keys  [][]byte `json:"keys,omitempty"`
	In    *sample  `json:"in,omitempty"`
}

var limit = Limit{Size: 200, Depth: 3}

func TestDecode(t *testing.T) {
	var v sample
	if err := Decode([]byte(` {"epoch":18446744073709551615,"keys":["AQI="],"in":{"name":"x"}} `), limit, &v); err != nil {
		t.Fatal(err)
	}
	if want := (sample{Epoch: 1<<64 - 1, Keys: [][]byte{{1, 2}}, In: &sample{Name: "x"}}); !reflect.DeepEqual(v, want) {
		t.Errorf("%+v", v)
	}
	for _, c := range []struct{ text, say string }{
		{``, "EOF"},
		{`{`, "EOF"},
		{`{"epoch":1}{}`, "behind the value"},
		{`{"epoch":1} x`, "behind the value"},
		{`{"epoch":1,"epoch":2}`, "twice"},
		{`{"epoch":1,"Epoch":2}`, "lower-case"},
		{`{"\u0065poch":1,"epoch":2}`, "twice"},
		{`{"epo` + "\u212a" + `h":1}`, "lower-case"},
		{`{"":1}`, "lower-case"},
		{`{"colour":1}`, "unknown field"},
		{`{"in":{"epoch":1,"epoch":1}}`, "twice"},
		{`{"in":{"in":{"in":{"name":"x"}}}}`, "too deep"},
		{`{"keys":[[["AA=="]]]}`, "too deep"},
		{`{"epoch":null}`, "null"},
		{`{"epoch":1.0}`, "no integer"},
		{`{"epoch":1e3}`, "no integer"},
		{`{"epoch":-1}`, "negative"},
		{`{"epoch":01}`, "invalid character"},
		{`{"epoch":18446744073709551616}`, "cannot unmarshal"},
		{`{"epoch":"1"}`, "cannot unmarshal"},
		{`{"name":"` + "\xff" + `"}`, "UTF-8"},
		{`{"name":"x",}`, "invalid character"},
		{`{"keys":["!"]}`, "base64"},
		{`{"name":"` + strings.Repeat("x", 200) + `"}`, "at most 200"},
		{strings.Repeat("[", 100), "too deep"},
	} {
		if err := Decode([]byte(c.text), limit, &v); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v; want %q", c.text, err, c.say)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"epoch":1,"in":{"name":"x"},"keys":["AQI="]}`))
	f.Add([]byte(`{"epoch":1,"Epoch":2}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var v, again sample
		if Decode(text, limit, &v) != nil {
			return
		}
		// Once more by way of our own encoding: the same value.
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := Decode(b, Limit{1 << 20, 3}, &again); err != nil || !reflect.DeepEqual(normal(v), normal(again)) {
			t.Errorf("%q: %+v, again %q: %+v (%v)", text, v, b, again, err)
		}
	})
}

// normal takes an empty list for none, and an empty object for one with empty members.
func normal(v sample) string {
	b, _ := json.Marshal(v)
	return string(b)
}
