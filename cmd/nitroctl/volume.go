package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"nitro/attest/evidence"
	"nitro/attest/sanitisation"
	"nitro/net/keyservice"
	"nitro/net/keyservice/kms"
	"nitro/nvme/key"
)

var volumeGroup = &group{"volume", "the host's encrypted volumes", []*command{
	{
		name:    "create",
		summary: "make a volume, and its key",
		about: `
Has the key service make a key, and the board a volume with the commitment to that key. The
key itself stays with the service until the volume is attached. A volume of the kind Pool
lies on the card and takes space as it is written; one of the kind RAM is gone with the
board's next restart; one of the kind Remote lies on a storage server, as ciphertext, and
has the size of the server's namespace. If the board refuses, the key is deleted again.
`,
		example: "nitroctl volume create " + volumeExample + serviceExample + " -name data -size 8GiB",
		setup:   volumeCreate,
	},
	{
		name:    "attach",
		summary: "bring a volume's key to the board, and show the volume to its host",
		args:    "VOLUME",
		about: `
Takes a challenge from the key service, has the board answer it with a request and its
evidence, takes the service's grant with the key that is wrapped to this boot of this board,
brings both to the board, and the board's signed confirmation to the service. This tool
never sees the key. VOLUME is a name or an identity. An attached volume's lease gets a new
end. With -standing the board asks for the key again by itself after its own restart, as
long as the host runs on.

With -form cms the key comes as AWS KMS gives it: by Decrypt for the board's attestation
document, in a CMS envelope. That needs an access key of the service (keyservice access) for
the same control plane as the certificate. The board makes its key for envelopes when it is
asked for first, which takes it a while.
`,
		example: "nitroctl volume attach " + volumeExample + serviceExample + " -lease 12h -standing data",
		setup:   volumeAttach,
	},
	{
		name:    "detach",
		summary: "take a volume from the host, and have its key zeroed",
		args:    "VOLUME",
		about: `
Ends the lease of a volume: the host loses it, and the board's copy of its key is zeroed. A
host that still writes sees errors, so unmount first. It works while the board's time is not
known and its audit log is full.
`,
		example: "nitroctl volume detach " + volumeExample + " data",
		setup:   volumeDetach,
	},
	{
		name:    "list",
		summary: "list the volumes",
		about: `
Lists the volumes: where they lie, what they take, whether the host has them, and how long
their leases last.
`,
		example: "nitroctl volume list " + volumeExample,
		setup:   volumeList,
	},
	{
		name:    "erase",
		summary: "make all that a volume held unreadable for good, and keep the certificate",
		args:    "VOLUME",
		about: `
Erases a volume (NIST SP 800-88 Rev. 1: purge by cryptographic erase; of a volume in RAM:
clear). It is detached first, and is empty afterwards; nobody can read what it held, not even
with its key. The board's certificate of sanitisation is verified and written to a new file:
the board's attestation key must be vouched for by -issuer, by -ak-name, or by both.
`,
		example: "nitroctl volume erase " + volumeExample + " -issuer board.issuer.pem -out data.sanitised.json data",
		setup:   volumeErase,
	},
	{
		name:    "delete",
		summary: "remove a volume, and its key",
		args:    "VOLUME",
		about: `
Removes a volume that is not attached, then its key at the key service, for good. Without
-keyservice the key stays there. What the volume held stays on the card as ciphertext until it is
overwritten: erase it first to have that worthless.
`,
		example: "nitroctl volume delete " + volumeExample + serviceExample + " data",
		setup:   volumeDelete,
	},
}}

const (
	volumeExample  = "-board 192.0.2.10 -pin 5f2a4d0c9e1b7a3384c6d5e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4 -cert storage.pem -key storage.key"
	serviceExample = " -keyservice https://keys.example:8443 -keyservice-ca keys.pem"
	volumesPath    = "/redfish/v1/Systems/host/Storage/pool/Volumes"
)

// A keyService is what volumes need of the service that has their keys:
// *keyservice.Client is one.
type keyService interface {
	CreateKey(ctx context.Context, volume [key.VolumeSize]byte) (commitment [32]byte, err error)
	Obtain(ctx context.Context, a keyservice.Ask, prove func(ctx context.Context, challenge [key.ChallengeSize]byte) (request, evidence []byte, err error)) (keyservice.Granted, error)
	Confirm(ctx context.Context, grant, confirmation []byte) error
	DeleteKey(ctx context.Context, volume [key.VolumeSize]byte) error
	Close()
}

// serviceFlags are the flags of a key service, which is asked with the certificate that
// the board is asked with; nil if none is named.
func serviceFlags(f *flag.FlagSet) func(*tls.Certificate) (keyService, error) {
	url := f.String("keyservice", "", "`URL` of the key service: https://HOST:PORT")
	ca := f.String("keyservice-ca", "", "`file` of the CA of its certificate, PEM")
	return func(client *tls.Certificate) (keyService, error) {
		if *url == "" && *ca == "" {
			return nil, nil
		}
		if err := need(map[string]string{"keyservice": *url, "keyservice-ca": *ca}); err != nil {
			return nil, err
		}
		roots, err := readPool(list{*ca})
		if err != nil {
			return nil, err
		}
		s, err := keyservice.New(keyservice.Setup{URL: *url, Roots: roots, Certificate: client})
		if err != nil {
			return nil, usage("%v", err)
		}
		return s, nil
	}
}

// readPool reads CAs; nil for no file.
func readPool(files list) (*x509.CertPool, error) {
	if len(files) == 0 {
		return nil, nil
	}
	pool := x509.NewCertPool()
	for _, path := range files {
		all, err := readCertificates(path)
		if err != nil {
			return nil, err
		}
		for _, c := range all {
			pool.AddCert(c)
		}
	}
	return pool, nil
}

// needService opens the key service's client, which has to be named.
func needService(open func(*tls.Certificate) (keyService, error), r *remote) (keyService, error) {
	s, err := open(r.client)
	if err == nil && s == nil {
		err = usage("-keyservice and -keyservice-ca are missing: the service that has the volumes' keys, and the CA of its certificate")
	}
	return s, err
}

// serviceError gives an error of the key service its next step.
func serviceError(err error) error {
	var e *keyservice.Error
	var k *kms.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e):
		return advised{fmt.Errorf("the key service refuses (%s): %s", e.Code, printable(e.Message)), printable(e.Next)}
	case errors.As(err, &k):
		return fmt.Errorf("the key service refuses (%s): %s", printable(string(k.Type)), printable(k.Message))
	}
	return err
}

// A volumeResource is a volume as the board's API shows it (docs/redfish.md, "Volumes").
type volumeResource struct {
	ID        string `json:"Id"`
	Name      string
	Capacity  uint64 `json:"CapacityBytes"`
	BlockSize int    `json:"BlockSizeBytes"`
	Allocated struct {
		Data struct{ AllocatedBytes uint64 }
	} `json:"Capacity"`
	Namespace struct{ NamespaceId string } `json:"NVMeNamespaceProperties"`
	Oem       struct {
		Nitro struct {
			Kind, Commitment   string
			Attached, Standing bool
			LeaseSeconds       int64
		}
	}
}

// A volumeInfo is a volume.
type volumeInfo struct {
	Volume       string `json:"volume"` // identity
	Name         string `json:"name"`
	Kind         string `json:"kind"`
	Size         uint64 `json:"size"`       // bytes
	BlockSize    int    `json:"block_size"` // bytes
	Used         uint64 `json:"used"`       // bytes
	Commitment   string `json:"commitment"`
	Attached     bool   `json:"attached"`
	Namespace    string `json:"namespace,omitempty"`
	LeaseSeconds int64  `json:"lease_seconds,omitempty"`
	Standing     bool   `json:"standing"`
}

func (v *volumeResource) info() volumeInfo {
	n := v.Oem.Nitro
	return volumeInfo{printable(v.ID), printable(v.Name), printable(n.Kind), v.Capacity, v.BlockSize, v.Allocated.Data.AllocatedBytes, printable(n.Commitment),
		n.Attached, printable(v.Namespace.NamespaceId), n.LeaseSeconds, n.Standing}
}

// A volumeResult is what came of a command on one volume.
type volumeResult struct {
	volumeInfo
	Connection connection `json:"connection"`
}

func (v volumeResult) print(w io.Writer) {
	lease := ""
	if v.Attached {
		lease = (time.Duration(v.LeaseSeconds) * time.Second).String()
		if v.Standing {
			lease += ", standing"
		}
	}
	table(w, [2]string{"volume", v.Volume}, [2]string{"name", v.Name}, [2]string{"kind", v.Kind}, [2]string{"size", fmt.Sprintf("%d bytes in blocks of %d", v.Size, v.BlockSize)},
		[2]string{"takes", fmt.Sprintf("%d bytes", v.Used)}, [2]string{"commitment", v.Commitment}, [2]string{"attached", yes(v.Attached)},
		[2]string{"namespace", v.Namespace}, [2]string{"lease", lease})
	v.Connection.print(w)
}

// A volumesInfo is all volumes of a board.
type volumesInfo struct {
	Volumes    []volumeInfo `json:"volumes"`
	Connection connection   `json:"connection"`
}

func (v volumesInfo) print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "VOLUME\tNAME\tKIND\tBYTES\tTAKES\tATTACHED\tLEASE")
	for _, i := range v.Volumes {
		attached, lease := "no", "-"
		if i.Attached {
			attached, lease = "namespace "+i.Namespace, (time.Duration(i.LeaseSeconds) * time.Second).String()
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%s\t%s\n", i.Volume, i.Name, i.Kind, i.Size, i.Used, attached, lease)
	}
	t.Flush()
	v.Connection.print(w)
}

// Limits of a list: what the board expands at once, and more volumes than any board has.
const (
	volumePage = 64
	maxVolumes = 1024
)

// listVolumes asks for all volumes.
func listVolumes(r *remote) (all []volumeResource, by connection, err error) {
	for {
		var page struct {
			Members []volumeResource
			Count   int `json:"Members@odata.count"`
		}
		path := fmt.Sprintf("%s?$expand=.&$skip=%d&$top=%d", volumesPath, len(all), volumePage)
		if by, err = r.call(http.MethodGet, path, nil, &page, http.StatusOK); err != nil {
			return nil, by, err
		}
		all = append(all, page.Members...)
		if len(page.Members) == 0 || len(all) >= page.Count || len(all) > maxVolumes {
			return all, by, nil
		}
	}
}

// errNoVolume: the board does not have it.
var errNoVolume = errors.New("none of its volumes has this name or identity")

// findVolume finds the volume of a name or an identity.
func findVolume(r *remote, name string) (volumeResource, connection, error) {
	all, by, err := listVolumes(r)
	if err != nil {
		return volumeResource{}, by, err
	}
	for _, v := range all {
		if v.ID == name || v.Name == name {
			if _, err := keyservice.ParseIdentity(v.ID); err != nil { // it goes into paths
				return v, by, fmt.Errorf("the board at %s: %w", r.address, err)
			}
			return v, by, nil
		}
	}
	return volumeResource{}, by, advised{fmt.Errorf("the board at %s has no volume %s: %w", r.address, printable(name), errNoVolume), "nitroctl volume list shows those that it has."}
}

// volumeAt asks for one volume.
func volumeAt(r *remote, id string) (volumeResult, error) {
	var v volumeResource
	by, err := r.call(http.MethodGet, volumesPath+"/"+id, nil, &v, http.StatusOK)
	return volumeResult{v.info(), by}, err
}

// act runs one of a volume's own actions.
func act(r *remote, id, action string, body, answer any) error {
	wanted := http.StatusNoContent
	if answer != nil {
		wanted = http.StatusOK
	}
	_, err := r.call(http.MethodPost, volumesPath+"/"+id+"/Actions/Oem/NitroVolume."+action, body, answer, wanted)
	return err
}

func volumeList(f *flag.FlagSet) func(*call) (result, error) {
	board := apiFlags(f)
	return func(*call) (result, error) {
		r, err := board()
		if err != nil {
			return nil, err
		}
		all, by, err := listVolumes(r)
		if err != nil {
			return nil, err
		}
		v := volumesInfo{[]volumeInfo{}, by}
		for _, one := range all {
			v.Volumes = append(v.Volumes, one.info())
		}
		return v, nil
	}
}

// A creation is the body that makes a volume.
type creation struct {
	Name      string
	Capacity  int64 `json:"CapacityBytes"`
	BlockSize int   `json:"BlockSizeBytes"`
	Oem       struct {
		Nitro struct {
			Identity, Commitment, Kind string
			Remote                     *remotePlace `json:",omitempty"`
		}
	}
}

// A remotePlace is where a remote volume lies.
type remotePlace struct {
	Server    string
	Namespace uint
	Secret    string `json:",omitempty"`
	Opposite  string `json:",omitempty"`
}

// placeFlags say where a remote volume lies. Secrets come in files: other users of the
// machine see command lines.
func placeFlags(f *flag.FlagSet) func() (*remotePlace, error) {
	var p remotePlace
	f.StringVar(&p.Server, "server", "", "`name` of the storage server that the configuration allows, for -kind Remote")
	f.UintVar(&p.Namespace, "namespace", 0, "`number` of the namespace there")
	secret := f.String("secret", "", "`file` of what the board proves itself with to the server, in the form DHHC-1; without it the server asks for nothing")
	opposite := f.String("opposite", "", "`file` of what the server proves itself with")
	return func() (*remotePlace, error) {
		if p == (remotePlace{}) && *secret+*opposite == "" {
			return nil, nil
		}
		for path, to := range map[*string]*string{secret: &p.Secret, opposite: &p.Opposite} {
			if *path == "" {
				continue
			}
			b, err := readFile(*path, maxSecret)
			if err != nil {
				return nil, err
			}
			*to = strings.TrimSpace(string(b))
		}
		return &p, nil
	}
}

// maxSecret is the longest file of a secret, in bytes.
const maxSecret = 1 << 10

func volumeCreate(f *flag.FlagSet) func(*call) (result, error) {
	board, service := apiFlags(f), serviceFlags(f)
	var n creation
	f.StringVar(&n.Name, "name", "", "`name` of the volume: 1 to 64 printable characters without space")
	size := f.String("size", "", "`size`: 512MiB, 8GiB, or bytes")
	f.StringVar(&n.Oem.Nitro.Kind, "kind", "Pool", "`kind`: Pool, RAM or Remote")
	place := placeFlags(f)
	f.IntVar(&n.BlockSize, "block", 4096, "`bytes` of a block: 512 or 4096")
	identity := f.String("identity", "", "identity, 32 `hexadecimal` digits; without it a new random one, as is best")
	return func(c *call) (result, error) {
		if err := need(map[string]string{"name": n.Name, "size": *size}); err != nil {
			return nil, err
		}
		var err error
		if n.Capacity, err = parseSize(*size); err != nil {
			return nil, err
		}
		id, err := identityFlag(*identity)
		if err != nil {
			return nil, err
		}
		if n.Oem.Nitro.Remote, err = place(); err != nil {
			return nil, err
		}
		r, err := board()
		if err != nil {
			return nil, err
		}
		s, err := needService(service, r)
		if err != nil {
			return nil, err
		}
		defer s.Close()
		return createVolume(c, r, s, id, n)
	}
}

// identityFlag reads an identity; "" makes one.
func identityFlag(s string) (id [key.VolumeSize]byte, err error) {
	if s == "" {
		rand.Read(id[:])
		return id, nil
	}
	if id, err = keyservice.ParseIdentity(s); err != nil {
		err = usage("-identity: %v", err)
	}
	return id, err
}

// createVolume makes the key first, since the volume is made with the commitment to it.
func createVolume(c *call, r *remote, s keyService, id [key.VolumeSize]byte, n creation) (result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), r.limit)
	defer cancel()
	commitment, err := s.CreateKey(ctx, id)
	if err != nil {
		return nil, serviceError(err)
	}
	c.say("1/2 the key service has made a key")
	n.Oem.Nitro.Identity, n.Oem.Nitro.Commitment = keyservice.Identity(id), hex.EncodeToString(commitment[:])
	var v volumeResource
	by, err := r.call(http.MethodPost, volumesPath, n, &v, http.StatusCreated)
	if err == nil {
		c.say("2/2 the board has made the volume")
		return volumeResult{v.info(), by}, nil
	}
	var away *unreachableError
	if errors.As(err, &away) { // it may have been made
		return nil, advised{err, "The volume may have been made or not: nitroctl volume list shows it, " + keyservice.Identity(id) + ". If it was not, delete its key at the key service."}
	}
	if e := s.DeleteKey(ctx, id); e != nil {
		return nil, fmt.Errorf("%w; and the key of volume %x stays at the key service: %w", err, id, e)
	}
	return nil, err
}

// defaultLease is how long a volume's key may be used, unless something else is asked for.
const defaultLease = time.Hour

func volumeAttach(f *flag.FlagSet) func(*call) (result, error) {
	board, service := apiFlags(f), serviceFlags(f)
	lease := f.Duration("lease", defaultLease, "`time` that the board may use the key; attach again to have more")
	standing := f.Bool("standing", false, "the board may ask for the key again after its own restart")
	envelopes := envelopeFlags(f)
	return func(c *call) (result, error) {
		name, err := c.one("volume")
		if err != nil {
			return nil, err
		}
		if *lease < time.Second || *lease%time.Second != 0 {
			return nil, usage("-lease %v: it is whole seconds, one at least", *lease)
		}
		r, err := board()
		if err != nil {
			return nil, err
		}
		e, err := envelopes(f.Lookup("keyservice").Value.String(), f.Lookup("keyservice-ca").Value.String())
		if err != nil {
			return nil, err
		}
		s, err := needService(service, r)
		if err != nil {
			return nil, err
		}
		defer s.Close()
		v, _, err := findVolume(r, name)
		if err != nil {
			return nil, err
		}
		ask := keyservice.Ask{Standing: *standing, Lease: *lease, Form: keyservice.HPKE}
		if e == nil {
			return attachVolume(c, r, s, v.ID, ask, bare)
		}
		defer e.Close()
		if ask.Form, err = keyservice.CMS, e.prepare(c, r); err != nil {
			return nil, err
		}
		return attachVolume(c, r, s, v.ID, ask, e.wrapped)
	}
}

// bare gives what came with the grant.
func bare(_ context.Context, g keyservice.Granted) ([]byte, error) { return g.Wrapped, nil }

// attachVolume has a volume's key go from the key service to the board, and the board's
// word of it back (docs/grant.md, "The way of a key"). wrapped gives the key of a grant in
// the form that was asked for.
func attachVolume(c *call, r *remote, s keyService, id string, ask keyservice.Ask, wrapped func(context.Context, keyservice.Granted) ([]byte, error)) (result, error) {
	var err error
	if ask.Volume, err = keyservice.ParseIdentity(id); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 4*r.limit)
	defer cancel()
	granted, err := s.Obtain(ctx, ask, func(_ context.Context, challenge [key.ChallengeSize]byte) (request, evidence []byte, err error) {
		c.say("1/4 the key service has given a challenge")
		var a struct {
			Request  []byte
			Evidence json.RawMessage
		}
		if err := act(r, id, "RequestKey", map[string][]byte{"Challenge": challenge[:]}, &a); err != nil {
			return nil, nil, err
		}
		c.say("2/4 the board has proved itself")
		return a.Request, a.Evidence, nil
	})
	if err != nil {
		return nil, serviceError(err)
	}
	k, err := wrapped(ctx, granted)
	if err != nil {
		return nil, serviceError(err)
	}
	c.say("3/4 the key service has granted the key, wrapped to this boot of this board")
	var a struct{ Confirmation []byte }
	err = act(r, id, "Attach", map[string]any{"Grant": granted.Grant, "WrappedKey": k, "Form": ask.Form}, &a)
	if err != nil {
		return nil, err
	}
	v, err := volumeAt(r, id)
	if err != nil {
		return nil, err
	}
	if err := s.Confirm(ctx, granted.Grant, a.Confirmation); err != nil {
		return v, fmt.Errorf("the volume is attached, but the key service does not take the board's confirmation: %w", serviceError(err))
	}
	c.say("4/4 the board has the key, and the key service its word")
	return v, nil
}

func volumeDetach(f *flag.FlagSet) func(*call) (result, error) {
	board := apiFlags(f)
	return func(c *call) (result, error) {
		name, err := c.one("volume")
		if err != nil {
			return nil, err
		}
		r, err := board()
		if err != nil {
			return nil, err
		}
		v, _, err := findVolume(r, name)
		if err != nil {
			return nil, err
		}
		if err := act(r, v.ID, "Detach", struct{}{}, nil); err != nil {
			return nil, err
		}
		return volumeAt(r, v.ID)
	}
}

// An erasedInfo is a volume that was erased, as its certificate has it.
type erasedInfo struct {
	Volume     string     `json:"volume"`
	Name       string     `json:"name"`
	Board      string     `json:"board"` // product and number
	AKName     string     `json:"ak_name"`
	MethodType string     `json:"method_type"`
	MethodUsed string     `json:"method_used"`
	Time       string     `json:"time"`
	By         string     `json:"requested_by"`
	File       string     `json:"file"`
	Connection connection `json:"connection"`
}

func (e erasedInfo) print(w io.Writer) {
	table(w, [2]string{"erased", e.Name + ", " + e.Volume}, [2]string{"method", e.MethodType + ": " + e.MethodUsed}, [2]string{"at", e.Time}, [2]string{"for", e.By},
		[2]string{"board", e.Board}, [2]string{"attestation key", e.AKName}, [2]string{"certificate", e.File})
	e.Connection.print(w)
}

func volumeErase(f *flag.FlagSet) func(*call) (result, error) {
	board := apiFlags(f)
	trusted := trustFlags(f)
	out := f.String("out", "", "`file` to write the certificate to")
	return func(c *call) (result, error) {
		name, err := c.one("volume")
		if err != nil {
			return nil, err
		}
		if err := need(map[string]string{"out": *out}); err != nil {
			return nil, err
		}
		if _, err := os.Lstat(*out); err == nil { // before anything is erased
			return nil, fmt.Errorf("%s: %w: nothing is overwritten, name a new file", *out, os.ErrExist)
		}
		trust, err := trusted()
		if err != nil {
			return nil, err
		}
		r, err := board()
		if err != nil {
			return nil, err
		}
		v, by, err := findVolume(r, name)
		if err != nil {
			return nil, err
		}
		c.say("the board erases %s", printable(v.Name))
		return eraseVolume(r, v, trust, *out, by)
	}
}

// trustFlags say whose attestation key may sign a certificate of sanitisation.
func trustFlags(f *flag.FlagSet) func() (sanitisation.Trust, error) {
	var issuers, names list
	f.Var(&issuers, "issuer", "`file` of a CA's certificate that certifies attestation keys, PEM; may be repeated")
	f.Var(&names, "ak-name", "TPM name of the board's attestation key, `hexadecimal`; may be repeated")
	return func() (t sanitisation.Trust, err error) {
		if len(issuers)+len(names) == 0 {
			return t, usage("nothing says whose attestation key is good: give -issuer or -ak-name (nitroctl attest verify shows it)")
		}
		for _, s := range names {
			name, err := hex.DecodeString(s)
			if err != nil || len(name) != evidence.NameSize {
				return t, usage("%q is no TPM name of an attestation key: it has %d bytes, in hexadecimal", s, evidence.NameSize)
			}
			t.Names = append(t.Names, name)
		}
		t.Issuers, err = readPool(issuers)
		return t, err
	}
}

// eraseVolume erases, and holds the certificate to what was asked for.
func eraseVolume(r *remote, v volumeResource, trust sanitisation.Trust, out string, by connection) (result, error) {
	var a struct{ Certificate json.RawMessage }
	if err := act(r, v.ID, "Erase", struct{}{}, &a); err != nil {
		return nil, err
	}
	const again = "The board says that the volume is erased, but that is not proved: verify its evidence (nitroctl attest verify), then erase it again."
	s, err := sanitisation.Verify(bytes.TrimSpace(a.Certificate), trust)
	if err != nil {
		return nil, advised{err, again}
	}
	if s.Volume != v.ID || s.Commitment != v.Oem.Nitro.Commitment || s.Name != v.Name {
		return nil, advised{fmt.Errorf("the certificate is of volume %s, %s, not of %s, %s", s.Volume, s.Name, v.ID, printable(v.Name)), again}
	}
	i := erasedInfo{s.Volume, s.Name, s.Product + " number " + s.UniqueID, s.AKName, s.MethodType, s.MethodUsed, s.Time, s.RequestedBy, out, by}
	return i, writeNew(out, a.Certificate)
}

// A deletedInfo is a volume that is not there any more.
type deletedInfo struct {
	Volume     string     `json:"volume"`
	Name       string     `json:"name"`
	KeyDeleted bool       `json:"key_deleted"`
	Connection connection `json:"connection"`
}

func (d deletedInfo) print(w io.Writer) {
	table(w, [2]string{"deleted", d.Name + ", " + d.Volume}, [2]string{"key deleted", yes(d.KeyDeleted)})
	d.Connection.print(w)
}

func volumeDelete(f *flag.FlagSet) func(*call) (result, error) {
	board, service := apiFlags(f), serviceFlags(f)
	return func(c *call) (result, error) {
		name, err := c.one("volume")
		if err != nil {
			return nil, err
		}
		r, err := board()
		if err != nil {
			return nil, err
		}
		s, err := service(r.client)
		if err != nil {
			return nil, err
		}
		return deleteVolume(r, s, name)
	}
}

// deleteVolume deletes on the board first: a key without a volume can be deleted later, a
// volume without its key is lost. An identity that the board does not have any more still
// has its key deleted, so that the command can be repeated.
func deleteVolume(r *remote, s keyService, name string) (result, error) {
	v, by, err := findVolume(r, name)
	if err != nil {
		id, e := keyservice.ParseIdentity(name)
		if s == nil || e != nil || !errors.Is(err, errNoVolume) {
			return nil, err
		}
		v.ID = keyservice.Identity(id)
	} else if _, err := r.call(http.MethodDelete, volumesPath+"/"+v.ID, nil, nil, http.StatusNoContent); err != nil && !isMissing(err) {
		return nil, err
	}
	d := deletedInfo{v.ID, printable(v.Name), false, by}
	if s == nil {
		return d, nil
	}
	defer s.Close()
	id, err := keyservice.ParseIdentity(v.ID)
	if err != nil {
		return d, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), r.limit)
	defer cancel()
	if err := s.DeleteKey(ctx, id); err != nil {
		return d, fmt.Errorf("the volume is deleted, but not its key: %w", serviceError(err))
	}
	d.KeyDeleted = true
	return d, nil
}

var _ keyService = (*keyservice.Client)(nil)
