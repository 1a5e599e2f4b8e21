package swtpm

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// Made makes a TPM as its maker delivers it: see Make. It wants TPM2_Startup.
func Made(tb testing.TB) (*TPM, *x509.CertPool) {
	tb.Helper()
	folder := tb.TempDir()
	root, err := Make(folder)
	if err != nil {
		tb.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	t := Open(tb, folder)
	t.On()
	return t, roots
}

// Make makes a TPM in a folder, for which it is the state, as its maker delivers it: with
// a certificate of its endorsement key in index 0x01c00002, by a maker of its own, whose
// root it gives.
func Make(folder string) (root *x509.Certificate, err error) {
	t := &TPM{state: folder}
	if err := t.on(); err != nil {
		return nil, fmt.Errorf("swtpm: %w", err)
	}
	defer t.Cut()
	if root, err = t.manufacture(); err != nil {
		return nil, fmt.Errorf("swtpm: making a TPM: %w", err)
	}
	return root, nil
}

// manufacture is what the maker does.
func (t *TPM) manufacture() (*x509.Certificate, error) {
	if _, err := (tpm2.Startup{StartupType: tpm2.TPMSUClear}).Execute(t); err != nil {
		return nil, err
	}
	ek, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(tpm2.RSAEKTemplate)}.Execute(t)
	if err != nil {
		return nil, err
	}
	public, err := ek.OutPublic.Contents()
	if err != nil {
		return nil, err
	}
	key, err := tpm2.Pub(*public)
	if err != nil {
		return nil, err
	}
	der, root, err := certify(key)
	if err != nil {
		return nil, err
	}
	return root, t.store(der)
}

// store puts the certificate where the board looks for it.
func (t *TPM) store(der []byte) error {
	index := tpm2.TPMSNVPublic{
		NVIndex: 0x01c00002, NameAlg: tpm2.TPMAlgSHA256, DataSize: uint16(len(der)) + 20, // longer than what lies in it
		Attributes: tpm2.TPMANV{PPWrite: true, PPRead: true, OwnerRead: true, AuthRead: true, NoDA: true, PlatformCreate: true},
	}
	if _, err := (tpm2.NVDefineSpace{AuthHandle: tpm2.TPMRHPlatform, PublicInfo: tpm2.New2B(index)}).Execute(t); err != nil {
		return err
	}
	for at := 0; at < len(der); at += 512 {
		name, err := tpm2.NVName(&index)
		if err != nil {
			return err
		}
		_, err = tpm2.NVWrite{
			AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHPlatform, Auth: tpm2.PasswordAuth(nil)},
			NVIndex:    tpm2.NamedHandle{Handle: index.NVIndex, Name: *name},
			Data:       tpm2.TPM2BMaxNVBuffer{Buffer: der[at:min(at+512, len(der))]}, Offset: uint16(at),
		}.Execute(t)
		if err != nil {
			return err
		}
		index.Attributes.Written = true
	}
	return nil
}

// certify makes a maker and has it certify a key. The subject is empty, as makers leave
// it.
func certify(key any) (der []byte, root *x509.Certificate, err error) {
	maker, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	root = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a maker of TPMs"}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, maker.Public(), maker)
	if err != nil {
		return nil, nil, err
	}
	if root, err = x509.ParseCertificate(rootDER); err != nil {
		return nil, nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: root.NotBefore, NotAfter: root.NotAfter, KeyUsage: x509.KeyUsageKeyEncipherment,
		ExtraExtensions: []pkix.Extension{{
			// Subject alternative name, critical: a directory name with the TPM's make, as
			// the EK Credential Profile 2.5 has it in its annex A.
			Id: []int{2, 5, 29, 17}, Critical: true, Value: directoryName("id:49424D00"),
		}},
	}
	der, err = x509.CreateCertificate(rand.Reader, leaf, root, key, maker)
	return der, root, err
}

// directoryName is a GeneralNames with one directoryName (RFC 5280, 4.2.1.6), which has
// the TPM's manufacturer (OID 2.23.133.2.1).
func directoryName(manufacturer string) []byte {
	name := pkix.RDNSequence{{{Type: []int{2, 23, 133, 2, 1}, Value: manufacturer}}}
	inner, _ := asn1.Marshal(name) // of fixed, valid parts
	general, _ := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: inner}})
	return general
}
