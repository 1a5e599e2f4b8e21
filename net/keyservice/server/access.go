package server

import (
	"bytes"
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"nitro/net/keyservice/kms"
	"nitro/net/policy"
)

var errNoAccess = errors.New("there is no such access key")

// An access key's file (docs/keyservice.md, "Store").
const (
	accessMagic  = "NCACCES1"
	accessPrefix = "NCAK"
	accessHead   = 8 + kms.AccessIDSize + 8 // magic, identifier, time: what is authenticated
	accessInfo   = "nitro key service access v1"
	maxAccess    = accessHead + nonceSize + kms.AccessSecretSize + policy.MaxURI + 16
)

// accesses are the access keys, in a folder, a file each, encrypted under a master key:
// who can write into the folder alone makes none.
type accesses struct {
	folder string
	master master
}

// An access is an access key of a control plane.
type access struct {
	secret []byte
	who    policy.Principal
	made   time.Time
}

// create makes one.
func (a *accesses) create(who policy.Principal, made time.Time) (k kms.Access, err error) {
	random := make([]byte, 30+10)
	rand.Read(random)
	k = kms.Access{ID: accessPrefix + base32.StdEncoding.EncodeToString(random[30:]), Secret: base64.RawURLEncoding.EncodeToString(random[:30])}
	aead, err := a.master.aead(accessInfo + k.ID)
	if err != nil {
		return k, err
	}
	b := binary.LittleEndian.AppendUint64([]byte(accessMagic+k.ID), uint64(made.Unix()))
	b = append(b, make([]byte, nonceSize)...)
	nonce := b[accessHead:]
	rand.Read(nonce)
	b = aead.Seal(b, nonce, []byte(k.Secret+who.String()), b[:accessHead])
	return k, writeNew(filepath.Join(a.folder, k.ID), b)
}

// open reads the one of an identifier, which has to be a valid one. The caller zeroes its
// secret.
func (a *accesses) open(id string) (k access, err error) {
	f, err := os.Open(filepath.Join(a.folder, id))
	if errors.Is(err, fs.ErrNotExist) {
		return k, errNoAccess
	}
	if err != nil {
		return k, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxAccess+1))
	if err != nil {
		return k, err
	}
	bad := fmt.Errorf("the file of access key %s is damaged, or of another master key: restore it, or revoke the key", id)
	if len(b) > maxAccess || len(b) < accessHead+nonceSize || !bytes.HasPrefix(b, []byte(accessMagic+id)) {
		return k, bad
	}
	aead, err := a.master.aead(accessInfo + id)
	if err != nil {
		return k, err
	}
	text, err := aead.Open(nil, b[accessHead:accessHead+nonceSize], b[accessHead+nonceSize:], b[:accessHead])
	if err != nil || len(text) < kms.AccessSecretSize {
		return k, bad
	}
	k.secret, k.made = text[:kms.AccessSecretSize], time.Unix(int64(binary.LittleEndian.Uint64(b[accessHead-8:])), 0)
	k.who, err = policy.ParsePrincipal(string(text[kms.AccessSecretSize:]))
	return k, err
}

// remove deletes one.
func (a *accesses) remove(id string) error {
	err := os.Remove(filepath.Join(a.folder, id))
	if errors.Is(err, fs.ErrNotExist) {
		return errNoAccess
	}
	return errors.Join(err, syncFolder(a.folder))
}
