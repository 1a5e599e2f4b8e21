package tpm

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// IsAbsent reports whether an error says that there is nothing at a handle.
func IsAbsent(err error) bool { return errors.Is(err, tpm2.TPMRCHandle) }

// ReadPublic reads an object's public area. [IsAbsent] tells from the error that there
// is none.
func (t *TPM) ReadPublic(h tpm2.TPMHandle) (*tpm2.TPMTPublic, error) {
	return readPublic(t, tpm2.ReadPublic{ObjectHandle: h})
}

// ReadPublicIn reads it in a session. It answers the interposer who shows a key of his
// own at a handle: the command's HMAC is over the name of the key that he showed, and the
// TPM computes it over its own.
func (t *TPM) ReadPublicIn(s *Session, h tpm2.TPMHandle) (*tpm2.TPMTPublic, error) {
	shown, err := t.ReadPublic(h)
	if err != nil {
		return nil, err
	}
	name, err := tpm2.ObjectName(shown)
	if err != nil {
		return nil, failed(fmt.Sprintf("TPM2_ReadPublic %#x", uint32(h)), errors.Join(ErrAnswer, err))
	}
	return readPublic(t, tpm2.ReadPublic{ObjectHandle: tpm2.NamedHandle{Handle: h, Name: *name}}, s.With(nil).audit())
}

func readPublic(t *TPM, command tpm2.ReadPublic, s ...tpm2.Session) (*tpm2.TPMTPublic, error) {
	what := fmt.Sprintf("TPM2_ReadPublic %#x", uint32(command.ObjectHandle.HandleValue()))
	r, err := command.Execute(t, s...)
	if err != nil {
		return nil, failed(what, err)
	}
	public, err := r.OutPublic.Contents()
	if err != nil {
		return nil, failed(what, errors.Join(ErrAnswer, err))
	}
	return public, nil
}

// Load loads an object under the storage primary, and gives its handle and its name,
// which is computed here. The caller flushes it.
func (t *TPM) Load(s *Session, private tpm2.TPM2BPrivate, public tpm2.TPM2BPublic) (Entity, error) {
	contents, err := public.Contents()
	if err != nil {
		return Entity{}, failed("object to load", err)
	}
	name, err := tpm2.ObjectName(contents)
	if err != nil {
		return Entity{}, failed("object to load", err)
	}
	r, err := tpm2.Load{ParentHandle: t.Storage(s), InPrivate: private, InPublic: public}.Execute(t)
	if err != nil {
		return Entity{}, failed("TPM2_Load", err)
	}
	return Entity{Handle: r.ObjectHandle, Name: *name}, nil
}

// Named is the entity as a handle of a command.
func (e Entity) Named() tpm2.NamedHandle { return tpm2.NamedHandle{Handle: e.Handle, Name: e.Name} }

// In is the entity as a handle that a command authorises, in a session.
func (e Entity) In(u *Use) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: e.Handle, Name: e.Name, Auth: u}
}

// LoadPublic loads a public key of somebody outside, so that the TPM verifies his
// signatures. The caller flushes it.
func (t *TPM) LoadPublic(public *tpm2.TPMTPublic) (Entity, error) {
	name, err := tpm2.ObjectName(public)
	if err != nil {
		return Entity{}, failed("public key", err)
	}
	r, err := tpm2.LoadExternal{InPublic: tpm2.New2B(*public), Hierarchy: tpm2.TPMRHOwner}.Execute(t)
	if err != nil {
		return Entity{}, failed("TPM2_LoadExternal", err)
	}
	return Entity{Handle: r.ObjectHandle, Name: *name}, nil
}
