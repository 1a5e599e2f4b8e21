package policy

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"sort"
	"strings"
	"testing"
)

// development is the set of Default.
func development(t testing.TB) *Set {
	t.Helper()
	s, err := Compile(&Payload{Epoch: 1, Policies: Default}, "board-1")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ask is a request of a role in a board's usual state.
func ask(r Role, a Action, on ResourceType) Request {
	return Request{Principal: Principal{"owner.example", r, "x"}, Action: a, Resource: Resource{on, "1"}, Mode: Mode{ClockKnown: true}}
}

// row is a line of docs/policy.md's table.
type row struct {
	on                ResourceType
	clock, quarantine bool
	roles             map[Role]bool
}

// published reads the table of docs/policy.md.
func published(t *testing.T) map[Action]row {
	t.Helper()
	page, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	table := map[Action]row{}
	var head []string
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		for i := range cells {
			cells[i] = strings.Trim(cells[i], " `")
		}
		switch {
		case strings.HasPrefix(line, "| action |"):
			head = cells
		case head != nil && line == "\n":
			return table
		case head != nil && !strings.HasPrefix(line, "|-"):
			r := row{on: ResourceType(cells[2]), clock: cells[3] == "yes", quarantine: cells[4] == "yes", roles: map[Role]bool{}}
			for i := 5; i < len(head)-1; i++ {
				r.roles[Role(head[i])] = cells[i] == "yes"
			}
			table[Action(cells[1])] = r
		}
	}
	t.Fatal("docs/policy.md has no table")
	return nil
}

// types are the resource types.
var types = []ResourceType{Service, Host, Controller, Firmware, Evidence, Log, Metrics, Access, Task, Volume}

// TestTable asks every role for every action on every type, and compares with the
// published table.
func TestTable(t *testing.T) {
	table, s := published(t), development(t)
	if len(table) != len(actions) {
		t.Errorf("docs/policy.md has %d actions, the schema %d", len(table), len(actions))
	}
	for _, a := range actions {
		row, ok := table[a.Name]
		if !ok || row.on != a.On || row.clock != a.Clock || row.quarantine != a.Quarantine || len(row.roles) != len(Roles) {
			t.Errorf("%s: docs/policy.md says %+v, the firmware %+v", a.Name, row, a)
		}
		for _, r := range Roles {
			for _, on := range types {
				want := row.roles[r] && on == a.On
				if d := s.Decide(ask(r, a.Name, on)); d.Allowed != want {
					t.Errorf("%s, %s on %s: %v, docs/policy.md says %v", r, a.Name, on, d, want)
				}
			}
		}
	}
}

// TestRules: what no policy makes wider, asked with a set that permits everything.
func TestRules(t *testing.T) {
	s, err := Compile(&Payload{Policies: `@id("all") permit (principal, action, resource);`}, "board-1")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range actions {
		for _, mode := range []Mode{{}, {ClockKnown: true}, {Quarantined: true}, {true, true}} {
			r := ask(Operator, a.Name, a.On)
			r.Mode = mode
			want := (a.Clock || mode.ClockKnown) && (a.Quarantine || !mode.Quarantined)
			if d := s.Decide(r); d.Allowed != want || (d.Rule != "") == want {
				t.Errorf("%s, %+v: %v, not %v", a.Name, mode, d, want)
			}
		}
	}
	good := ask(Operator, ResetHost, Host)
	for name, change := range map[string]func(*Request){
		"no such action": func(r *Request) { r.Action = "readKey" },
		"another type":   func(r *Request) { r.Resource.Type = Log },
		"no role":        func(r *Request) { r.Principal.Role = "" },
		"long resource":  func(r *Request) { r.Resource.ID = strings.Repeat("x", MaxResourceID+1) },
		"long reset":     func(r *Request) { r.Reset = strings.Repeat("x", MaxReset+1) },
	} {
		r := good
		if change(&r); s.Decide(r).Rule == "" {
			t.Errorf("%s: not refused", name)
		}
	}
	for _, none := range []*Set{nil, {}} {
		if d := none.Decide(good); d.Allowed || d.Rule == "" {
			t.Errorf("no set: %v", d)
		}
	}
	hold := good
	hold.Reset, hold.Mode = "ForceOff", Mode{}
	if d := s.Decide(hold); !d.Allowed {
		t.Errorf("holding the host before the time is known: %v", d)
	}
	for _, a := range actions {
		if r := ask(Auditor, a.Name, a.On); r.Relief() != (a.On == Log || a.On == Metrics) {
			t.Errorf("%s: relief %v", a.Name, r.Relief())
		}
	}
	if hold.Reset = "On"; s.Decide(hold).Allowed || hold.Safe() {
		t.Error("releasing the host is not in the safe direction")
	}
}

// TestNothingReadsSecrets: the schema has no word for it.
func TestNothingReadsSecrets(t *testing.T) {
	for _, word := range []string{"key", "secret", "memory", "password", "shell", "exec", "debug", "seal"} {
		if strings.Contains(strings.ToLower(string(Schema)), word) {
			t.Errorf("the schema says %q", word)
		}
	}
}

// TestSchema: schema.json has the actions, types and roles of this package, no more.
func TestSchema(t *testing.T) {
	var s map[string]struct {
		EntityTypes map[string]struct{ Enum []Role }
		Actions     map[Action]struct {
			AppliesTo struct {
				PrincipalTypes []string
				ResourceTypes  []ResourceType
			}
		}
	}
	if err := json.Unmarshal(Schema, &s); err != nil {
		t.Fatal(err)
	}
	n := s["Nitro"]
	got := map[Action]ResourceType{}
	for a, d := range n.Actions {
		if len(d.AppliesTo.ResourceTypes) != 1 || !reflect.DeepEqual(d.AppliesTo.PrincipalTypes, []string{"Client"}) {
			t.Errorf("%s applies to %+v", a, d.AppliesTo)
		}
		got[a] = d.AppliesTo.ResourceTypes[0]
	}
	if !reflect.DeepEqual(got, Actions()) {
		t.Errorf("schema.json: %v, not %v", got, Actions())
	}
	if !slices.Equal(n.EntityTypes["Role"].Enum, Roles) {
		t.Errorf("schema.json: roles %v", n.EntityTypes["Role"].Enum)
	}
	if len(n.EntityTypes) != len(types)+3 {
		t.Errorf("schema.json: %d entity types", len(n.EntityTypes))
	}
	if _, err := loadSchema(); err != nil {
		t.Error(err)
	}
}

// TestPolicies: what the language offers to an owner.
func TestPolicies(t *testing.T) {
	const all = `@id("all") permit (principal, action, resource); `
	on := func(change func(*Request)) Request { r := ask(Operator, ResetHost, Host); change(&r); return r }
	for name, c := range map[string]struct {
		policies string
		r        Request
		want     string
	}{
		"default deny": {`@id("no-one") permit (principal, action, resource in Nitro::Board::"other");`, on(func(*Request) {}),
			"denied: no policy permits it"},
		"this board": {`@id("here") permit (principal, action, resource in Nitro::Board::"board-1");`, on(func(*Request) {}), "allowed by here"},
		"one person": {`@id("mona") permit (principal == Nitro::Client::"spiffe://owner.example/operator/mona", action, resource);`,
			on(func(r *Request) { r.Principal.Name = "mona" }), "allowed by mona"},
		"another person": {`@id("mona") permit (principal == Nitro::Client::"spiffe://owner.example/operator/mona", action, resource);`,
			on(func(*Request) {}), "denied: no policy permits it"},
		"forbid wins": {all + `@id("hold-only") forbid (principal, action == Nitro::Action::"resetHost", resource) unless { context has reset && context.reset == "ForceOff" };`,
			on(func(r *Request) { r.Reset = "On" }), "denied: forbidden by hold-only"},
		"unless": {all + `@id("hold-only") forbid (principal, action == Nitro::Action::"resetHost", resource) unless { context has reset && context.reset == "ForceOff" };`,
			on(func(r *Request) { r.Reset = "ForceOff" }), "allowed by all"},
		"attributes": {`@id("ours") permit (principal, action, resource) when { principal.owner == "owner.example" && principal.name == "x" };`,
			on(func(*Request) {}), "allowed by ours"},
		"both permit": {all + `@id("also") permit (principal, action, resource);`, on(func(*Request) {}), "allowed by all, also"},
		"an error denies": {all + `@id("sums") forbid (principal, action, resource) when { 9223372036854775807 + 1 == 0 };`, on(func(*Request) {}),
			"denied: a policy cannot be evaluated: sums: "},
	} {
		s, err := Compile(&Payload{Policies: c.policies}, "board-1")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d := s.Decide(c.r); !strings.HasPrefix(d.String(), c.want) || d.Allowed != strings.HasPrefix(c.want, "allowed") {
			t.Errorf("%s: %s, not %s", name, d, c.want)
		}
	}
}

// TestRefusedPolicies: sets that are refused as a whole.
func TestRefusedPolicies(t *testing.T) {
	for policies, want := range map[string]string{
		``:                                      "0 policies",
		`permit (principal, action, resource);`: "give it a name",
		`@id("a b") permit (principal, action, resource);`:                                                                                           "give it a name",
		`@id("a") permit (principal, action, resource); @id("a") forbid (principal, action, resource);`:                                              "two of that name",
		`@id("a") forbid (principal, action == Nitro::Action::"resetHosts", resource);`:                                                              "resetHosts",
		`@id("a") forbid (principal in Nitro::Role::"operators", action, resource);`:                                                                 "operators",
		`@id("a") forbid (principal, action, resource) when { principal.nmae == "x" };`:                                                              "nmae",
		`@id("a") forbid (principal, action, resource) when { context.reset == "On" };`:                                                              "reset",
		`@id("a") permit (principal, action, resource) when { resource is Nitro::Key };`:                                                             "Nitro::Key in",
		`@id("a") permit (principal, action, resource is Nitro::Key);`:                                                                               "Nitro::Key in",
		`@id("a") permit (principal, action, resource) when { principal in Nitro::Role::"root" };`:                                                   "root",
		`@id("a") permit (principal, action, resource) when { [action].contains(Nitro::Action::"read") };`:                                           "read",
		`@id("a") forbid (principal == Nitro::Client::"mona", action, resource);`:                                                                    "no client",
		`@id("a") forbid (principal is Nitro::Client in Nitro::Role::"root", action, resource);`:                                                     "root",
		`@id("a") permit (principal, action, resource) when { ` + strings.Repeat("(", 33) + "true" + strings.Repeat(")", 33) + ` };`:                 "deep",
		`@id("a") permit (principal, action, resource) when { "]]]]" == "" && ` + strings.Repeat("(", 33) + "true" + strings.Repeat(")", 33) + ` };`: "deep",
		"//" + strings.Repeat(" ", MaxText):                                                                                                          "bytes",
		`@id("a") permit (principal, action, resource`:                                                                                               "parse error",
		strings.Repeat(`@id("a") permit (principal, action, resource);`, MaxPolicies+1):                                                              "129 policies",
	} {
		if _, err := Compile(&Payload{Policies: policies}, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: %v, not %q", policies, err, want)
		}
	}
	if n := nesting(`("\"((((" // ((((` + "\n" + `[{}])`); n != 3 {
		t.Errorf("nesting: %d", n)
	}
}

func TestQuarantine(t *testing.T) {
	s := Quarantine("board-1", nil)
	for _, a := range actions {
		r := ask(Operator, a.Name, a.On)
		r.Mode.Quarantined = true
		if d := s.Decide(r); d.Allowed != a.Quarantine {
			t.Errorf("%s: %v", a.Name, d)
		}
	}
	for _, role := range Roles { // what others have asked is not everybody's to know
		r := ask(role, ReadRing, Log)
		r.Mode.Quarantined = true
		if d := s.Decide(r); d.Allowed != (role == Operator || role == Auditor) {
			t.Errorf("%s reads the ring: %v", role, d)
		}
	}
}

func TestExplain(t *testing.T) {
	s := development(t)
	for _, c := range []struct {
		r    Request
		want string
	}{
		{ask(Operator, ResetHost, Host), `spiffe://owner.example/operator/x asks resetHost on Host "1": allowed by operators-run-servers
allowed to the roles: operator
`},
		{ask(FleetVerifier, ReadLog, Log), `spiffe://owner.example/fleet-verifier/x asks readLog on Log "1": denied: no policy permits it
allowed to the roles: operator auditor
`},
		{ask(Auditor, "readKey", Service), `spiffe://owner.example/auditor/x asks readKey on Service "1": denied: there is no such action
no role would be allowed this
`},
	} {
		if got := s.Explain(c.r).String(); got != c.want {
			t.Errorf("%s", got)
		}
	}
}

func ExampleSet_Explain() {
	s, _ := Compile(&Payload{Epoch: 1, Policies: Default}, "board-1")
	p, _ := ParsePrincipal("spiffe://owner.example/release-manager/build")
	fmt.Print(s.Explain(Request{Principal: p, Action: PushUpdate, Resource: Resource{Firmware, "/redfish/v1/UpdateService"}, Mode: Mode{ClockKnown: true}}))
	// Output:
	// spiffe://owner.example/release-manager/build asks pushUpdate on Firmware "/redfish/v1/UpdateService": allowed by release-managers-bring-firmware
	// allowed to the roles: release-manager
}

func BenchmarkDecide(b *testing.B) {
	s, r := development(b), ask(Operator, ResetHost, Host)
	b.ReportAllocs()
	for b.Loop() {
		if !s.Decide(r).Allowed {
			b.Fatal("denied")
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		development(b)
	}
}

// TestNames: the list that others range over is sorted nowhere by accident.
func TestNames(t *testing.T) {
	var names []string
	for a := range Actions() {
		names = append(names, string(a))
	}
	sort.Strings(names)
	if len(slices.Compact(names)) != len(actions) {
		t.Error("an action is there twice")
	}
}
