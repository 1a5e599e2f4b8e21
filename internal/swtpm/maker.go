package swtpm

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// Made makes a TPM as its maker delivers it: with a certificate of its endorsement key in
// index 0x01c00002, by a maker of its own, whose root it gives. It wants TPM2_Startup.
func Made(tb testing.TB) (*TPM, *x509.CertPool) {
	tb.Helper()
	t := New(tb)
	must := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal("swtpm: making a TPM: ", err)
		}
	}
	_, err := tpm2.Startup{StartupType: tpm2.TPMSUClear}.Execute(t)
	must(err)
	ek, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(tpm2.RSAEKTemplate)}.Execute(t)
	must(err)
	public, err := ek.OutPublic.Contents()
	must(err)
	key, err := tpm2.Pub(*public)
	must(err)
	der, roots, err := certify(key)
	must(err)
	index := tpm2.TPMSNVPublic{
		NVIndex: 0x01c00002, NameAlg: tpm2.TPMAlgSHA256, DataSize: uint16(len(der)) + 20, // longer than what lies in it
		Attributes: tpm2.TPMANV{PPWrite: true, PPRead: true, OwnerRead: true, AuthRead: true, NoDA: true, PlatformCreate: true},
	}
	_, err = tpm2.NVDefineSpace{AuthHandle: tpm2.TPMRHPlatform, PublicInfo: tpm2.New2B(index)}.Execute(t)
	must(err)
	name, err := tpm2.NVName(&index)
	must(err)
	for at := 0; at < len(der); at += 512 {
		_, err = tpm2.NVWrite{
			AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHPlatform, Auth: tpm2.PasswordAuth(nil)},
			NVIndex:    tpm2.NamedHandle{Handle: index.NVIndex, Name: *name},
			Data:       tpm2.TPM2BMaxNVBuffer{Buffer: der[at:min(at+512, len(der))]}, Offset: uint16(at),
		}.Execute(t)
		must(err)
		index.Attributes.Written = true
		name, err = tpm2.NVName(&index)
		must(err)
	}
	t.Cycle()
	t.commands = 0
	return t, roots
}

// certify makes a maker and has it certify a key. The subject is empty, as makers leave
// it.
func certify(key any) (der []byte, roots *x509.CertPool, err error) {
	maker, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a maker of TPMs"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, maker.Public(), maker)
	if err != nil {
		return nil, nil, err
	}
	c, err := x509.ParseCertificate(rootDER)
	if err != nil {
		return nil, nil, err
	}
	roots = x509.NewCertPool()
	roots.AddCert(c)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: root.NotBefore, NotAfter: root.NotAfter, KeyUsage: x509.KeyUsageKeyEncipherment,
		ExtraExtensions: []pkix.Extension{{
			// Subject alternative name, critical: a directory name with the TPM's make, as
			// the EK Credential Profile 2.5 has it in its annex A.
			Id: []int{2, 5, 29, 17}, Critical: true, Value: directoryName("id:49424D00"),
		}},
	}
	der, err = x509.CreateCertificate(rand.Reader, leaf, c, key, maker)
	return der, roots, err
}

// directoryName is a GeneralNames with one directoryName (RFC 5280, 4.2.1.6), which has
// the TPM's manufacturer (OID 2.23.133.2.1).
func directoryName(manufacturer string) []byte {
	name := pkix.RDNSequence{{{Type: []int{2, 23, 133, 2, 1}, Value: manufacturer}}}
	inner, _ := asn1.Marshal(name) // of fixed, valid parts
	general, _ := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: inner}})
	return general
}
