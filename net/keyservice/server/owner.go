package server

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"nitro/net/keyservice/kms"
	"nitro/net/policy"
)

// An Owner admits and revokes control planes of a service, whether that runs or not: what
// he changes counts at once. His acts are in the service's log.
type Owner struct {
	master   master
	accesses *accesses
	revoked  revoked
	log      *journal
	now      func() time.Time
}

// OpenOwner opens a folder for its owner. now is the system's clock if it is nil.
func OpenOwner(folder string, now func() time.Time) (*Owner, error) {
	m, err := readMaster(folder)
	if err == nil {
		err = makeFolders(folder)
	}
	if err != nil {
		return nil, fmt.Errorf("key service: %w", err)
	}
	o := &Owner{master: m, accesses: &accesses{filepath.Join(folder, accessFolder), m}, revoked: revoked{filepath.Join(folder, revokedFolder)}, now: now}
	if now == nil {
		o.now = time.Now
	}
	if o.log, err = openJournal(filepath.Join(folder, logFile)); err != nil {
		return nil, fmt.Errorf("key service: log: %w", err)
	}
	return o, nil
}

// Close closes the log.
func (o *Owner) Close() error {
	clear(o.master)
	return o.log.file.Close()
}

func (o *Owner) record(event string, r record) error {
	r.Time, r.Event, r.From, r.Result = o.now().UTC(), event, "folder", done
	if err := o.log.add(r); err != nil {
		return fmt.Errorf("key service: log: %w", err)
	}
	return nil
}

// plane refuses who is no control plane.
func plane(who policy.Principal) error {
	p, err := policy.ParsePrincipal(who.String())
	if err == nil && p.Role != policy.StorageControlPlane {
		err = fmt.Errorf("%s is no control plane", p)
	}
	if err != nil {
		return fmt.Errorf("key service: %w", err)
	}
	return nil
}

// Since is when a certificate of a control plane has to begin: now, or after it was revoked.
func (o *Owner) Since(who policy.Principal) (time.Time, error) {
	if err := plane(who); err != nil {
		return time.Time{}, err
	}
	return o.revoked.after(who.Name, o.now())
}

// Admit records that a control plane gets a certificate. Give it out only then.
func (o *Owner) Admit(who policy.Principal, c *x509.Certificate) error {
	if err := plane(who); err != nil {
		return err
	}
	hash := sha256.Sum256(c.Raw)
	return o.record("admission", record{Who: who.String(), Certificate: hex.EncodeToString(hash[:])})
}

// Access makes an access key of a control plane.
func (o *Owner) Access(who policy.Principal) (k kms.Access, err error) {
	if err := plane(who); err != nil {
		return k, err
	}
	made, err := o.revoked.after(who.Name, o.now())
	if err == nil {
		k, err = o.accesses.create(who, made)
	}
	if err != nil {
		return k, fmt.Errorf("key service: access key: %w", err)
	}
	if err := o.record("access", record{Who: who.String(), Access: k.ID}); err != nil {
		return kms.Access{}, errors.Join(err, o.accesses.remove(k.ID))
	}
	return k, nil
}

// Revoke makes void what a control plane has had until now. It is done even if it cannot
// be recorded, which is an error.
func (o *Owner) Revoke(who policy.Principal) error {
	if err := plane(who); err != nil {
		return err
	}
	if err := o.revoked.add(who.Name, o.now()); err != nil {
		return fmt.Errorf("key service: %w", err)
	}
	return o.record("revocation", record{Who: who.String()})
}

// RevokeAccess deletes one access key. It is done even if it cannot be recorded, which is
// an error.
func (o *Owner) RevokeAccess(id string) error {
	if !kms.ValidID(id) {
		return fmt.Errorf("key service: access key %.40q: an identifier has %d of A-Z and 0-9", id, kms.AccessIDSize)
	}
	k, err := o.accesses.open(id)
	if errors.Is(err, errNoAccess) {
		return fmt.Errorf("key service: access key %s: %w", id, err)
	}
	clear(k.secret)
	if err := o.accesses.remove(id); err != nil {
		return fmt.Errorf("key service: access key %s: %w", id, err)
	}
	r := record{Access: id}
	if err == nil { // a damaged one does not say whose it is
		r.Who = k.who.String()
	}
	return o.record("revocation", r)
}
