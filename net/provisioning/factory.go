package provisioning

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net"
	"reflect"
	"strconv"
	"time"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/akcert"
	"nitro/attest/eventlog"
	"nitro/attest/golden"
	"nitro/attest/identity"
	"nitro/attest/seal"
	"nitro/attest/tpm"
	"nitro/boot/code"
)

// Errors of the factory's end, beside the board's codes.
var (
	// ErrOptions: the factory's tool was not told enough.
	ErrOptions = errors.New("something is missing in the options")
	// ErrBoard: it is not the board, or not the software, that was expected.
	ErrBoard = errors.New("this is not the board that was expected")
	// ErrChannel: the board's TPM does not vouch for the other end of the connection.
	ErrChannel = errors.New("the TPM does not vouch for this connection: somebody is in the middle")
	// ErrKeys: a key is not what docs/attestation.md says.
	ErrKeys = errors.New("the board shows a key that is not one of its kind")
	// ErrLockout: the lockout authorisation was given out in an earlier run.
	ErrLockout = errors.New("the board has given its lockout authorisation out already: give the record of the earlier run")
	// ErrUnconfirmed: all is done but the board's last word.
	ErrUnconfirmed = errors.New("the board did not confirm: it is provisioned or nearly so: see its evidence, or run again")
)

// Options tell the factory's end what to do.
type Options struct {
	Address string // of the board, host and port
	// Dial connects to it; nil is a net.Dialer's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	Factory tls.Certificate // that the board's configuration names
	Owner   crypto.Signer   // P-256, the configuration's owner

	Roots, Intermediates *x509.CertPool // of TPM makers
	At                   time.Time      // as of identity.VerifyEK

	// Releases are those that the board may run: its measurements must be one's.
	Releases []*golden.Release
	// Approvals are delivered to the board; those that its card carries are used as well.
	Approvals []seal.Approval

	Product     string // as in the configuration
	UniqueID    string // of the board that is meant, 16 hexadecimal digits; "" is any
	Development bool   // it is a development board: one that is not is refused, and the other way round

	// Certify issues the AK's certificate (DER, at most 4,096 bytes). What it is given has
	// been proved.
	Certify func(Record) ([]byte, error)
	// Keep writes the record down where it lasts, before it returns. It is called several
	// times in a run, the later record replacing the earlier one.
	Keep func(Record) error
	// Record is that of an earlier run of the same board, or nil.
	Record *Record

	// Progress, if set, is told which step comes next.
	Progress func(Step)
	// Retry is the time between two connections; 0 is 2 seconds.
	Retry time.Duration
}

// A Secret does not show when it is printed. In JSON it is base64.
type Secret []byte

func (Secret) String() string   { return "(secret)" }
func (Secret) GoString() string { return "(secret)" }

// A Record is what the factory keeps of a board (docs/provisioning.md, "The record").
type Record struct {
	Format        int    `json:"format"`
	Product       string `json:"product"`
	UniqueID      string `json:"unique_id"`
	Development   bool   `json:"development"`
	SoCSecret     string `json:"soc_secret"` // none, shared, own
	EKCertificate []byte `json:"ek_certificate,omitempty"`
	StorageName   []byte `json:"storage_name,omitempty"`
	AKName        []byte `json:"ak_name,omitempty"`
	EKName        []byte `json:"ek_name,omitempty"`
	BoardKeyName  []byte `json:"board_key_name,omitempty"`
	AK            []byte `json:"ak,omitempty"`        // TPMT_PUBLIC
	BoardKey      []byte `json:"board_key,omitempty"` // TPMT_PUBLIC
	Lockout       Secret `json:"secret_lockout,omitempty"`
	BoardPart     []byte `json:"board_part,omitempty"` // envelope
	AKCertificate []byte `json:"ak_certificate,omitempty"`
	Complete      bool   `json:"complete"`
}

// ReadRecord reads a record that was kept.
func ReadRecord(text []byte) (*Record, error) {
	r := new(Record)
	if err := decode(text, r); err != nil {
		return nil, err
	}
	if r.Format != format {
		return nil, fmt.Errorf("provisioning: record of format %d, not %d", r.Format, format)
	}
	return r, nil
}

// CertifyBy is an Options.Certify: an issuer of attestation keys' certificates (package
// akcert), which is a CA's certificate and its key. They are valid without end.
func CertifyBy(issuer *x509.Certificate, key *ecdsa.PrivateKey) func(Record) ([]byte, error) {
	return func(r Record) ([]byte, error) {
		id, err := strconv.ParseUint(r.UniqueID, 16, 64)
		if err != nil {
			return nil, fmt.Errorf("unique number %q: %w", printable(r.UniqueID), err)
		}
		return akcert.New(akcert.Request{
			AK: r.AK, EKCertificate: r.EKCertificate, Product: r.Product, UniqueID: id,
			NotBefore: time.Now().Add(-clockSlack), NotAfter: akcert.Forever,
		}, issuer, key)
	}
}

// clockSlack is how far verifiers' clocks may be behind the factory's.
const clockSlack = time.Hour

func (o *Options) check() error {
	missing := ""
	public, ok := (*ecdsa.PublicKey)(nil), false
	if o.Owner != nil {
		public, ok = o.Owner.Public().(*ecdsa.PublicKey)
	}
	switch {
	case len(o.Factory.Certificate) == 0:
		missing = "the factory's certificate"
	case !ok || public.Curve != elliptic.P256():
		missing = "the owner's key of P-256"
	case o.Roots == nil:
		missing = "the roots of TPM makers"
	case len(o.Releases) == 0:
		missing = "the known-good set of a release"
	case o.Product == "":
		missing = "the product"
	case o.Certify == nil:
		missing = "how the AK is certified"
	case o.Keep == nil:
		missing = "where the record is kept"
	default:
		return nil
	}
	return fmt.Errorf("provisioning: %s: %w", missing, ErrOptions)
}

// Provision provisions a board. A connection that breaks, as when the board's power goes,
// is made again until ctx ends, and the procedure goes on where it was cut. What the
// board refuses, and what it cannot prove, ends it: the error has the board's code, or
// is one of this package. The record is as far as it came; it is never nil.
func Provision(ctx context.Context, o Options) (*Record, error) {
	f := &factory{Options: o, r: &Record{}}
	if o.Record != nil {
		*f.r = *o.Record
	}
	f.r.Format = format
	if err := o.check(); err != nil {
		return f.r, err
	}
	retry := o.Retry
	if retry == 0 {
		retry = 2 * time.Second
	}
	for {
		err := f.attempt(ctx)
		var broken *brokenError
		if err == nil || !errors.As(err, &broken) {
			return f.r, err
		}
		select {
		case <-ctx.Done():
			err = errors.Join(err, context.Cause(ctx))
			if f.committed {
				err = errors.Join(ErrUnconfirmed, err)
			}
			return f.r, fmt.Errorf("provisioning: %w", err)
		case <-time.After(retry):
		}
	}
}

// A factory is one call of Provision.
type factory struct {
	Options
	r         *Record
	committed bool // the last question was asked at least once

	conn    *tls.Conn
	keys    keys
	log     *eventlog.Log
	facts   facts
	draft   *golden.Draft
	board   *golden.Board
	approve boardPartAnswer
}

// keys are the board's, as it showed them.
type keys struct{ ek, storage, ak, boardKey *tpm2.TPMTPublic }

// A brokenError is a connection that broke: nobody has refused anything.
type brokenError struct {
	step Step
	err  error
}

func (e *brokenError) Error() string { return fmt.Sprintf("connection: %s: %v", e.step, e.err) }
func (e *brokenError) Unwrap() error { return e.err }

// attempt is the procedure on one connection.
func (f *factory) attempt(ctx context.Context) (err error) {
	f.progress(Connect)
	if err := f.connect(ctx); err != nil {
		return &brokenError{Connect, err}
	}
	defer f.conn.Close()
	stop := context.AfterFunc(ctx, func() { f.conn.NetConn().Close() })
	defer stop()
	if err := f.answer(Connect, new(nothing)); err != nil {
		return fmt.Errorf("provisioning: %s: %w", Connect, err)
	}
	for _, s := range []struct {
		step Step
		do   func() error
	}{{Hello, f.hello}, {Prove, f.prove}, {Seal, f.seal}, {Close, f.close}, {BoardPart, f.boardPart}, {Sign, f.sign}, {Commit, f.commit}} {
		f.progress(s.step)
		if err := s.do(); err != nil {
			return fmt.Errorf("provisioning: %s: %w", s.step, err)
		}
	}
	f.progress(Done)
	return nil
}

func (f *factory) progress(s Step) {
	if f.Progress != nil {
		f.Progress(s)
	}
}

// connect makes a connection to somebody who is not known yet.
func (f *factory) connect(ctx context.Context) error {
	dial := f.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	ctx, cancel := context.WithTimeout(ctx, handshake)
	defer cancel()
	raw, err := dial(ctx, "tcp", f.Address)
	if err != nil {
		return err
	}
	f.conn = tls.Client(raw, &tls.Config{
		Certificates: []tls.Certificate{f.Factory},
		MinVersion:   tls.VersionTLS13,
		// Who it is, the TPM says, in prove: until then nothing secret is sent.
		InsecureSkipVerify: true,
	})
	if err := f.conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return err
	}
	return nil
}

// ask asks one question.
func (f *factory) ask(step Step, question, answer any) error {
	if err := send(f.conn, handshake, message{Step: step}, question); err != nil {
		return &brokenError{step, err}
	}
	return f.answer(step, answer)
}

// answer reads the answer to a step.
func (f *factory) answer(step Step, answer any) error {
	m, err := receive(f.conn, answerLimit)
	var op *net.OpError
	switch {
	case errors.As(err, &op) && op.Op == "remote error": // an alert, which crypto/tls wraps so
		return code.FactoryUnknown.Errorf("the board does not take the factory's certificate: %w", err)
	case errors.Is(err, errMessage):
		return err
	case err != nil:
		return &brokenError{step, err}
	case m.Step != step:
		return fmt.Errorf("an answer to %q: %w", printable(string(m.Step)), errMessage)
	case m.Code != code.None || m.Error != "":
		return m.Code.Errorf("the board refuses: %s", printable(m.Error))
	case m.Body == nil:
		m.Body = json.RawMessage("{}")
	}
	defer clear(m.Body) // one has a secret
	return decode(m.Body, answer)
}

// hello gets to know what the board says of itself, and checks what can be checked of it.
func (f *factory) hello() error {
	var q helloQuestion
	if len(f.Approvals) > 0 {
		b, err := (&seal.Set{Approvals: f.Options.Approvals}).Encode()
		if err != nil {
			return err
		}
		q.Approvals = b
	}
	var a helloAnswer
	if err := f.ask(Hello, q, &a); err != nil {
		return err
	}
	if a.Product != f.Product || a.Development != f.Development || f.UniqueID != "" && a.UniqueID != f.UniqueID {
		return fmt.Errorf("product %q, number %q, development %v: %w", printable(a.Product), printable(a.UniqueID), a.Development, ErrBoard)
	}
	if err := f.keys.read(&a); err != nil {
		return err
	}
	if err := f.keys.check(f.Owner.Public().(*ecdsa.PublicKey)); err != nil {
		return err
	}
	if _, err := identity.VerifyEK(a.EKCertificate, f.keys.ek, f.Roots, f.Intermediates, f.At); err != nil {
		return err
	}
	if f.r.EKCertificate != nil && !bytes.Equal(f.r.EKCertificate, a.EKCertificate) {
		return fmt.Errorf("the record is of another TPM: %w", ErrBoard)
	}
	names, err := f.keys.names()
	if err != nil {
		return err
	}
	r := f.r
	r.Product, r.UniqueID, r.Development, r.EKCertificate = a.Product, a.UniqueID, a.Development, a.EKCertificate
	r.StorageName, r.AKName, r.EKName, r.BoardKeyName = names[0], names[1], names[2], names[3]
	r.AK, r.BoardKey = a.AK, a.BoardKey
	return nil
}

func (k *keys) read(a *helloAnswer) error {
	for _, key := range []struct {
		name string
		from []byte
		to   **tpm2.TPMTPublic
	}{{"endorsement key", a.EK, &k.ek}, {"storage primary", a.Storage, &k.storage}, {"attestation key", a.AK, &k.ak}, {"board key", a.BoardKey, &k.boardKey}} {
		p, err := tpm2.Unmarshal[tpm2.TPMTPublic](key.from)
		if err != nil {
			return fmt.Errorf("%s: %w", key.name, errors.Join(ErrKeys, err))
		}
		*key.to = p
	}
	return nil
}

// check compares the keys with what they must be: an AK that signs what anybody gives it
// forges quotes, and a board key that does without the owner approves any successor.
func (k *keys) check(owner *ecdsa.PublicKey) error {
	template, err := identity.BoardKeyTemplate(owner)
	if err != nil {
		return err
	}
	for _, key := range []struct {
		name     string
		got      *tpm2.TPMTPublic
		template tpm2.TPMTPublic
	}{
		{"endorsement key", k.ek, identity.EKTemplate}, {"storage primary", k.storage, identity.StorageTemplate},
		{"attestation key", k.ak, identity.AKTemplate()}, {"board key", k.boardKey, template},
	} {
		p := *key.got
		p.Unique = key.template.Unique
		if !bytes.Equal(tpm2.Marshal(p), tpm2.Marshal(key.template)) {
			return fmt.Errorf("%s: %w", key.name, ErrKeys)
		}
	}
	return nil
}

// names are in the pin's order.
func (k *keys) names() (names [4][]byte, err error) {
	for i, p := range []*tpm2.TPMTPublic{k.storage, k.ak, k.ek, k.boardKey} {
		n, err := tpm2.ObjectName(p)
		if err != nil {
			return names, fmt.Errorf("name of a key: %w", errors.Join(ErrKeys, err))
		}
		names[i] = n.Buffer
	}
	return names, nil
}

// prove has the board prove that what hello said is so.
func (f *factory) prove() error {
	storage, storageAnswer, err := identity.NewChallenge(f.keys.ek, f.r.StorageName)
	if err != nil {
		return err
	}
	ak, akAnswer, err := identity.NewChallenge(f.keys.ek, f.r.AKName)
	if err != nil {
		return err
	}
	q := proveQuestion{storage.Blob, storage.Secret, ak.Blob, ak.Secret, make([]byte, nonceSize)}
	rand.Read(q.Nonce)
	var a proveAnswer
	if err := f.ask(Prove, q, &a); err != nil {
		return err
	}
	if err := identity.Proved(a.StorageAnswer, storageAnswer); err != nil {
		return fmt.Errorf("storage primary: %w", err)
	}
	if err := identity.Proved(a.AKAnswer, akAnswer); err != nil {
		return fmt.Errorf("attestation key: %w", err)
	}
	digest, err := quotedDigest(f.keys.ak, a.Attest, a.Signature, q.Nonce)
	if err != nil {
		return err
	}
	if f.log, err = eventlog.Parse(a.Log); err != nil {
		return err
	}
	replayed := f.log.Replay()
	h := sha256.New()
	for _, pcr := range quoted {
		h.Write(replayed[pcr][:])
	}
	if subtle.ConstantTimeCompare(h.Sum(nil), digest) != 1 {
		return fmt.Errorf("the event log does not give the quoted PCRs: %w", identity.ErrQuote)
	}
	return f.checkBoot()
}

// quotedDigest verifies a quote and gives its digest of the PCRs.
func quotedDigest(ak *tpm2.TPMTPublic, attest, signature, nonce []byte) ([]byte, error) {
	key, err := boardKey(ak)
	if err != nil {
		return nil, err
	}
	sig, err := tpm2.Unmarshal[tpm2.TPMTSignature](signature)
	if err != nil {
		return nil, fmt.Errorf("signature of the quote: %w", errors.Join(identity.ErrQuote, err))
	}
	e, err := sig.Signature.ECDSA()
	if err != nil || sig.SigAlg != tpm2.TPMAlgECDSA || e.Hash != tpm2.TPMAlgSHA256 {
		return nil, fmt.Errorf("signature of the quote is not ECDSA with SHA-256: %w", identity.ErrQuote)
	}
	sum := sha256.Sum256(attest)
	if !ecdsa.Verify(key, sum[:], new(big.Int).SetBytes(e.SignatureR.Buffer), new(big.Int).SetBytes(e.SignatureS.Buffer)) {
		return nil, fmt.Errorf("signature of the quote: %w", identity.ErrQuote)
	}
	q, err := tpm2.Unmarshal[tpm2.TPMSAttest](attest)
	if err != nil || q.Magic != tpm2.TPMGeneratedValue || q.Type != tpm2.TPMSTAttestQuote || subtle.ConstantTimeCompare(q.ExtraData.Buffer, nonce) != 1 {
		return nil, fmt.Errorf("it is for another question: %w", errors.Join(identity.ErrQuote, err))
	}
	info, err := q.Attested.Quote()
	if err != nil || !bytes.Equal(tpm2.Marshal(info.PCRSelect), tpm2.Marshal(tpm.PCRSelection(quoted...))) {
		return nil, fmt.Errorf("it is over other PCRs: %w", errors.Join(identity.ErrQuote, err))
	}
	return info.PCRDigest.Buffer, nil
}

// checkBoot judges what the quote says of this boot.
func (f *factory) checkBoot() (err error) {
	if f.facts, err = factsOf(f.log); err != nil {
		return err
	}
	b := f.facts.board
	if b.Value("product") != f.r.Product || b.Value("unique-id") != f.r.UniqueID {
		return fmt.Errorf("the log is of board %q, number %s: %w", b.Value("product"), b.Value("unique-id"), ErrBoard)
	}
	f.r.SoCSecret = b.Value("soc-secret")
	if f.r.SoCSecret != string(eventlog.OwnSecret) && !f.Development {
		return fmt.Errorf("its SoC's secret is %q, and it is no development board: %w", f.r.SoCSecret, ErrBoard)
	}
	var identities []eventlog.Event
	for _, e := range f.log.Events() {
		if e.Name() == "identity" {
			identities = append(identities, e)
		}
		if e.Name() == "anchors" && (e.Value("development") == "1") != f.Development {
			return fmt.Errorf("its anchors say development=%s: %w", e.Value("development"), ErrBoard)
		}
	}
	key := KeyDigest(f.conn.ConnectionState().PeerCertificates[0])
	if len(identities) != 1 || identities[0].PCR != identity.BootPCR || identities[0].Value("tls") != fmt.Sprintf("%x", key) {
		return fmt.Errorf("key %x: %w", key, ErrChannel)
	}
	f.board = newBoardPart(f.log, f.facts, f.Development, [4][]byte{f.r.StorageName, f.r.AKName, f.r.EKName, f.r.BoardKeyName})
	var bad []error
	for _, r := range f.Releases {
		err := golden.Compare(f.log, r, f.board)
		if err == nil {
			return nil
		}
		bad = append(bad, err)
	}
	return fmt.Errorf("it runs no release that is known: %w", errors.Join(append(bad, ErrBoard)...))
}

// seal gets the lockout authorisation.
func (f *factory) seal() error {
	var a sealAnswer
	if err := f.ask(Seal, sealQuestion{f.r.StorageName, f.r.AKName, f.r.EKName, f.r.BoardKeyName}, &a); err != nil {
		return err
	}
	lockout := a.Lockout
	if lockout == nil {
		lockout = f.r.Lockout
	}
	sum := sha256.Sum256(lockout)
	if len(lockout) != tpm.AuthSize || subtle.ConstantTimeCompare(sum[:], a.LockoutSHA256) != 1 {
		return ErrLockout
	}
	f.r.Lockout = lockout
	return f.keep()
}

// keep has the record kept.
func (f *factory) keep() error {
	if err := f.Keep(*f.r); err != nil {
		return fmt.Errorf("keeping the record: %w", err)
	}
	return nil
}

// close tells the board that the lockout authorisation is kept.
func (f *factory) close() error {
	sum := sha256.Sum256(f.r.Lockout)
	return f.ask(Close, closeQuestion{sum[:]}, new(nothing))
}

// boardPart asks for what the owner is to sign, which must be the board part as the
// factory itself computes it.
func (f *factory) boardPart() error {
	if err := f.ask(BoardPart, nothing{}, &f.approve); err != nil {
		return err
	}
	var err error
	if f.draft, err = golden.NewDraft(f.board, f.approve.Revision); err != nil {
		return err
	}
	return identity.CheckApproval(f.approve.Approve, f.keys.boardKey, f.draft.Digest())
}

// sign has the owner approve, and verifies what the board makes of it.
func (f *factory) sign() error {
	approval, err := identity.ApproveSigning(f.Owner, f.approve.Approve)
	if err != nil {
		return fmt.Errorf("the owner's key: %w", err)
	}
	var a signAnswer
	if err := f.ask(Sign, signQuestion{approval}, &a); err != nil {
		return err
	}
	key, err := boardKey(f.keys.boardKey)
	if err != nil {
		return err
	}
	b, revision, err := golden.OpenBoard(a.Envelope, key)
	if err != nil {
		return err
	}
	if revision != f.approve.Revision || !reflect.DeepEqual(b, f.board) {
		return fmt.Errorf("the board part is not the one that was approved: %w", ErrBoard)
	}
	f.r.BoardPart = a.Envelope
	return nil
}

// commit certifies the AK and has the board become a provisioned one.
func (f *factory) commit() error {
	der, err := f.Certify(*f.r)
	if err != nil {
		return fmt.Errorf("certifying the AK: %w", err)
	}
	f.r.AKCertificate = der
	if err := f.keep(); err != nil {
		return err
	}
	f.committed = true
	if err := f.ask(Commit, commitQuestion{der}, new(nothing)); err != nil {
		return err
	}
	f.r.Complete = true
	return f.keep()
}
