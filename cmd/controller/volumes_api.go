package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/sanitisation"
	"nitro/board/imx6ul/sd"
	"nitro/boot/store"
	"nitro/net/redfish"
	"nitro/net/standing"
	"nitro/nvme/key"
	"nitro/nvme/pool"
	"nitro/nvme/storage"
	"nitro/nvme/volume"
)

// A volumesAPI is the host's volumes, as Redfish shows them. It implements redfish.Storage.
type volumesAPI struct {
	s  *storage.Service
	by attester
}

// An attester proves for the volumes what the board is, and what it has done.
type attester interface {
	// Evidence has the TPM quote with a nonce.
	Evidence(nonce []byte) ([]byte, error)
	// certify completes a statement about a volume, and has the attestation key sign it.
	certify(s sanitisation.Statement) ([]byte, error)
	// cardNames are model and serial number of the card; "-" where it does not say.
	cardNames() (model, serial string)
	// hostErased is the certificate of a volume's last erase by the host; nil if there is none.
	hostErased(id [16]byte) []byte
	// forgetErased forgets it.
	forgetErased(id [16]byte)
}

// Storage implements redfish.Storage.
func (a volumesAPI) Storage() (st redfish.StorageState) {
	st.Model, st.Serial = a.by.cardNames()
	space, there := a.s.Spaces()[storage.Pool]
	if !there {
		st.Fault = "The card has no pool that can be opened: the board's console says why."
		return st
	}
	st.CapacityBytes, st.FreeBytes = uint64(space.Total), uint64(space.Free)
	return st
}

// Volumes implements redfish.Storage.
func (a volumesAPI) Volumes() (all []redfish.VolumeState) {
	for _, v := range a.s.Volumes() {
		all = append(all, redfish.VolumeState{
			VolumeSpec: redfish.VolumeSpec{ID: v.ID, Name: v.Name, Kind: string(v.Kind), Capacity: v.Blocks * uint64(v.BlockSize),
				BlockSize: v.BlockSize, Commitment: v.Commitment, Place: redfish.VolumePlace(v.Place)},
			Used: uint64(v.Used), Attached: v.Attached, Namespace: v.Namespace, Left: v.Left, Standing: v.Standing,
		})
	}
	return all
}

// ErasedByHost implements redfish.Storage.
func (a volumesAPI) ErasedByHost(id redfish.VolumeID) []byte { return a.by.hostErased(id) }

// Create implements redfish.Storage.
func (a volumesAPI) Create(ctx context.Context, v redfish.VolumeSpec) error {
	_, err := a.s.Create(ctx, storage.Spec{ID: v.ID, Name: v.Name, Kind: storage.Kind(v.Kind), BlockSize: v.BlockSize,
		Blocks: v.Capacity / uint64(v.BlockSize), Commitment: v.Commitment, Place: storage.Place(v.Place)})
	return refuseVolume(v.ID, err)
}

// Delete implements redfish.Storage.
func (a volumesAPI) Delete(ctx context.Context, id redfish.VolumeID) error {
	err := a.s.Delete(ctx, id)
	if err == nil {
		a.by.forgetErased(id)
	}
	return refuseVolume(id, err)
}

// Request implements redfish.Storage.
func (a volumesAPI) Request(ctx context.Context, id redfish.VolumeID, challenge [redfish.ChallengeSize]byte) (request, evidence []byte, err error) {
	if request, err = a.s.Request(ctx, id); err != nil {
		return nil, nil, refuseVolume(id, err)
	}
	nonce := key.EvidenceNonce(challenge, request)
	if evidence, err = a.by.Evidence(nonce[:]); err != nil {
		return nil, nil, refuseVolume(id, err)
	}
	return request, evidence, nil
}

// Attach implements redfish.Storage. The grant says itself in which form its key comes, and
// is signed: the client's word for it is not asked.
func (a volumesAPI) Attach(ctx context.Context, id redfish.VolumeID, _ string, grant, wrapped []byte) ([]byte, error) {
	confirmation, err := a.s.Attach(ctx, id, grant, wrapped)
	return confirmation, refuseVolume(id, err)
}

// Detach implements redfish.Storage: what is not attached is detached.
func (a volumesAPI) Detach(ctx context.Context, id redfish.VolumeID) error {
	err := a.s.Detach(ctx, id)
	if errors.Is(err, storage.ErrDetached) {
		return nil
	}
	return refuseVolume(id, err)
}

// Erase implements redfish.Storage. A volume that is erased and has no certificate can be
// erased again.
func (a volumesAPI) Erase(ctx context.Context, id redfish.VolumeID, who string) ([]byte, error) {
	done, err := a.s.Erase(ctx, id)
	if err != nil {
		return nil, refuseVolume(id, err)
	}
	certificate, err := a.by.certify(statement(done, who, a.by))
	if err != nil {
		log.Printf("volume %v: erased, and not certified: %v", id, err)
		e := redfish.Refuse(http.StatusServiceUnavailable, "ServiceTemporarilyUnavailable", strconv.Itoa(retryVolume))
		e.RetryAfter, e.Next = retryVolume, "The volume is erased, but the TPM has not signed the certificate: erase it again to have one."
		return nil, e
	}
	return certificate, nil
}

// statement is what a certificate says of a volume that was erased for somebody.
func statement(done storage.Sanitised, who string, by attester) sanitisation.Statement {
	s := sanitisation.Statement{
		MediumType: string(done.Kind), MediumModel: "-", MediumSerial: "-",
		Volume: redfish.VolumeID(done.ID).String(), Name: done.Name, Kind: string(done.Kind), Bytes: done.Blocks * uint64(done.BlockSize), Commitment: hex.EncodeToString(done.Commitment[:]),
		MethodType: done.Technique, MethodUsed: done.Method, MethodDetails: done.Details, VerificationMethod: done.Verification, RequestedBy: who,
	}
	if done.Kind == storage.Pool {
		s.MediumType = "SD card"
		s.MediumModel, s.MediumSerial = by.cardNames()
	}
	return s
}

// ErasePool implements redfish.Storage.
func (a volumesAPI) ErasePool(ctx context.Context, who string) (certificates [][]byte, err error) {
	for _, v := range a.s.Volumes() {
		if v.Kind != storage.Pool {
			continue
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		b, err := a.Erase(ctx, v.ID, who)
		if err != nil {
			return nil, err
		}
		certificates = append(certificates, b)
	}
	return certificates, nil
}

// retryVolume is when to ask again for what could not be done at the moment, in seconds.
const retryVolume = 10

// volumeRefusals say what a client can do about an error. The first that fits counts;
// where there is no next step, it is the error's own.
var volumeRefusals = []struct {
	is     error
	status int
	id     string
	next   string
}{
	{storage.ErrRefused, http.StatusForbidden, "GeneralError", ""},
	{key.ErrMaking, http.StatusServiceUnavailable, "ServiceTemporarilyUnavailable", ""},
	{storage.ErrNotFound, http.StatusNotFound, "ResourceMissingAtURI", "List the volumes: it may have been deleted meanwhile."},
	{storage.ErrExists, http.StatusConflict, "ResourceAlreadyExists", "Choose another name and another identity."},
	{pool.ErrExists, http.StatusConflict, "ResourceAlreadyExists", "Choose another name and another identity."},
	{storage.ErrInUse, http.StatusConflict, "ResourceInUse", "Detach the volume first."},
	{pool.ErrBusy, http.StatusConflict, "ResourceInUse", "Detach the volume first."},
	{storage.ErrSpec, http.StatusBadRequest, "GeneralError", ""},
	{storage.ErrFull, http.StatusInsufficientStorage, "ResourceExhaustion", ""},
	{volume.ErrFull, http.StatusInsufficientStorage, "ResourceExhaustion", "Delete volumes, or have hosts trim them."},
	{storage.ErrPlace, http.StatusConflict, "GeneralError", ""},
	{storage.ErrNoServer, http.StatusBadRequest, "GeneralError", ""},
	{storage.ErrServer, http.StatusServiceUnavailable, "ServiceTemporarilyUnavailable", ""},
	{storage.ErrNoPool, http.StatusConflict, "ResourceInStandby", ""},
	{storage.ErrNoHost, http.StatusConflict, "ResourceInStandby", "Release the host first: a key is for a host cycle."},
	{storage.ErrNoService, http.StatusConflict, "ResourceInStandby", ""},
	{pool.ErrErased, http.StatusConflict, "GeneralError", ""},
	{storage.ErrClock, http.StatusServiceUnavailable, "ServiceTemporarilyUnavailable", "The TPM's clock cannot be read, so no key is taken; what is attached goes on. Look at the board's status."},
	{storage.ErrClosed, http.StatusServiceUnavailable, "ServiceTemporarilyUnavailable", "Volumes are not served any more in this boot: the board's status has a code, with its next step."},
	{storage.ErrStore, http.StatusServiceUnavailable, "ServiceTemporarilyUnavailable", "It is done, but the board's store did not keep that for sure: ask again."},
	{volume.ErrMedium, http.StatusServiceUnavailable, "ServiceTemporarilyUnavailable", "The card failed: restart the board to have its pool opened anew, and replace the card if it fails again."},
	{standing.ErrUnavailable, http.StatusServiceUnavailable, "ServiceTemporarilyUnavailable", "The TPM does not answer: look at the board's status."},
}

// refuseVolume makes a Redfish error of the engine's. What it does not know is logged, and
// an internal error to the client.
func refuseVolume(id redfish.VolumeID, err error) error {
	if err == nil {
		return nil
	}
	for _, r := range volumeRefusals {
		if !errors.Is(err, r.is) {
			continue
		}
		e := redfish.Refuse(r.status, r.id)
		switch r.id {
		case "ResourceMissingAtURI", "ResourceExhaustion":
			e.Args = []string{volumePath(id)}
		case "ResourceAlreadyExists":
			e.Args = []string{"Volume", "Name or Identity", id.String()}
		case "ServiceTemporarilyUnavailable":
			e.Args, e.RetryAfter = []string{strconv.Itoa(retryVolume)}, retryVolume
		}
		if e.Next = r.next; e.Next == "" {
			e.Next = sentence(err)
		}
		return e
	}
	log.Printf("volume %v: %v", id, err)
	return err
}

// volumePath is that of a volume.
func volumePath(id redfish.VolumeID) string {
	return redfish.Root + "Systems/host/Storage/pool/Volumes/" + id.String()
}

// maxSentence is the longest next step, in bytes.
const maxSentence = 300

// sentence makes a next step of an error that says one.
func sentence(err error) string {
	text := err.Error()
	for _, prefix := range []string{"storage: ", "key: ", "pool: "} {
		text = strings.ReplaceAll(text, prefix, "")
	}
	return strings.ToUpper(text[:1]) + text[1:min(len(text), maxSentence)] + "."
}

// tool is what a certificate of sanitisation names.
const tool = "nitro controller"

// certify implements attester.
func (f *firmware) certify(s sanitisation.Statement) ([]byte, error) {
	now, known := f.now()
	if !known {
		return nil, errors.New("the time is not known")
	}
	id, err := f.board.UniqueID()
	if err != nil {
		return nil, err
	}
	c := &f.chain
	signer, err := newLogSigner(c)
	if err != nil {
		return nil, err
	}
	c.Bus.Lock()
	public, err := c.T.ReadPublic(c.AK.Handle)
	c.Bus.Unlock()
	if err != nil {
		return nil, err
	}
	s.Product, s.UniqueID, s.AKName = c.Product, fmt.Sprintf("%016x", id), hex.EncodeToString(c.AK.Name.Buffer)
	s.Tool, s.ToolVersion, s.Time = tool, f.version, sanitisation.When(now)
	return sanitisation.Make(s, signer, tpm2.Marshal(public), f.akCertificate)
}

// cardNames implements attester.
func (f *firmware) cardNames() (model, serial string) {
	c, ok := f.card.(interface{ CID() sd.CID })
	if !ok {
		return "-", "-"
	}
	cid := c.CID()
	name := strings.Map(func(r rune) rune { // printable, and within a certificate's text
		if r <= ' ' || r > '~' || strings.ContainsRune(`"\<>&`, r) {
			return '?'
		}
		return r
	}, string(cid[3:8])) // PNM: product name
	return name, fmt.Sprintf("%08x", cid.Serial())
}

// certifyErase certifies what the host has erased, and tells what came of it, for the audit.
// It takes the TPM a while, and the host does not wait for it.
func (f *firmware) certifyErase(e storage.Event) string {
	b, err := f.certify(statement(*e.Sanitised, fmt.Sprintf("host, cycle %d", e.Cycle), f))
	if err == nil {
		err = f.chain.Store.Put(erasedName(e.Volume), b)
	}
	if err != nil {
		return fmt.Sprintf("no certificate: %.200v", err)
	}
	return fmt.Sprintf("certificate %x", sha256.Sum256(b))
}

// erasedName is where the certificate of a volume's last erase by the host is stored. The
// volume's deletion removes it.
func erasedName(id [16]byte) string { return fmt.Sprintf("%s%x", erasedPrefix, id) }

const erasedPrefix = "volumes/erased/"

// forgetErasedOfNone forgets certificates of volumes that are gone with the last boot.
// Without a pool nobody knows which are.
func (f *firmware) forgetErasedOfNone(s *storage.Service) {
	if _, there := s.Spaces()[storage.Pool]; !there {
		return
	}
	ids, err := identities(f.chain.Store, erasedPrefix)
	if err != nil {
		log.Printf("%v", err)
	}
	for _, id := range ids {
		if _, err := s.Volume(id); errors.Is(err, storage.ErrNotFound) {
			f.forgetErased(id)
		}
	}
}

// forgetErased implements attester.
func (f *firmware) forgetErased(id [16]byte) {
	if f.hostErased(id) == nil {
		return
	}
	if err := f.chain.Store.Delete(erasedName(id)); err != nil {
		log.Printf("volume %x: %v", id, err)
	}
}

// hostErased implements attester.
func (f *firmware) hostErased(id [16]byte) []byte {
	b, err := f.chain.Store.Get(erasedName(id))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		log.Printf("volume %x: %v", id, err)
	}
	return b
}
