package audit

import (
	"fmt"
	"strconv"
	"strings"
)

// Parts of a syslog message (RFC 5424, 6.2).
const (
	facility   = 13 // log audit
	warning    = 4
	notice     = 5
	appName    = "nitro"
	enterprise = "nitro@32473" // 32473 is RFC 5612's number for examples
	maxHost    = 255
)

// Syslog makes the syslog message of a record (RFC 5424) of a board that the host name
// says, in the frame of RFC 5425: length, space, message.
func Syslog(record []byte, host string) ([]byte, error) {
	r, err := DecodeRecord(record)
	if err != nil {
		return nil, err
	}
	severity := notice
	if r.Kind == KindDenied || r.Kind == KindDenials || r.Kind == KindGap || r.Status >= 400 {
		severity = warning
	}
	when := r.T
	if when == "" {
		when = "-" // NILVALUE: the time was not known (6.2.3)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "<%d>1 %s %s %s - %s [%s", facility*8+severity, when, hostName(host), appName, r.Kind, enterprise)
	for _, p := range r.parameters() {
		if p[1] != "" {
			fmt.Fprintf(&b, ` %s="%s"`, p[0], value.Replace(p[1]))
		}
	}
	b.WriteByte(']')
	return fmt.Appendf(nil, "%d %s", b.Len(), b.String()), nil
}

// value escapes what ends a parameter's value (6.3.3).
var value = strings.NewReplacer(`"`, `\"`, `\`, `\\`, `]`, `\]`)

// hostName makes a HOSTNAME of 1 to 255 printable characters without space.
func hostName(s string) string {
	s = strings.ReplaceAll(plain(s, maxHost), " ", "-")
	if s == "" {
		return "-"
	}
	return s
}

func yes(is bool) string {
	if is {
		return "true"
	}
	return ""
}

// parameters are a record's members.
func (r *Record) parameters() [][2]string {
	number := func(n uint64, is bool) string {
		if !is {
			return ""
		}
		return strconv.FormatUint(n, 10)
	}
	p := [][2]string{
		{"n", number(r.N, true)}, {"boot", number(r.Boot, true)}, {"up", strconv.FormatInt(r.Up, 10)},
		{"who", r.Who}, {"action", r.Action}, {"type", r.Type}, {"resource", r.Resource}, {"method", r.Method}, {"reset", r.Reset},
		{"why", r.Why}, {"of", number(r.Of, r.Kind == KindOutcome)}, {"status", number(uint64(max(r.Status, 0)), r.Status > 0)},
		{"count", number(r.Count, r.Count > 0)}, {"from", number(uint64(r.From), r.Kind == KindDenials)}, {"to", number(uint64(r.To), r.Kind == KindDenials)},
		{"rationed", yes(r.Rationed)}, {"detail", r.Detail},
	}
	if c := r.Counters; c != nil {
		p = append(p, [][2]string{{"tls", number(c.TLS, true)}, {"certificate", number(c.Certificate, true)},
			{"principal", number(c.Principal, true)}, {"request", number(c.Request, true)}, {"busy", number(c.Busy, true)}}...)
	}
	return p
}
