package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"nitro/net/keyservice"
	"nitro/net/keyservice/kms"
	"nitro/nvme/key"
)

// document answers as a board's NitroDocument.Get does, with its recipient key for a
// document.
func (b *volumeBoard) document(w http.ResponseWriter, r *http.Request) {
	var ask struct{ Recipient bool }
	if json.NewDecoder(r.Body).Decode(&ask) != nil || !ask.Recipient {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	der, err := b.recipient.Public(r.Context())
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	json.NewEncoder(w).Encode(map[string][]byte{"Document": der})
}

// decrypt is the KMS face, which judges nothing but the signature.
func (k *keyHolder) decrypt(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	refuse := func(e *kms.Error) {
		w.WriteHeader(e.Type.Status())
		json.NewEncoder(w).Encode(e)
	}
	g, problem := kms.ReadSignature(r)
	if problem == nil {
		problem = g.Verify(r, body, []byte(k.access.Secret), time.Now())
	}
	if problem != nil {
		refuse(problem)
		return
	}
	in, problem := kms.ReadDecrypt(body)
	if problem != nil {
		refuse(problem)
		return
	}
	ref, problem := kms.ParseReference(in.CiphertextBlob)
	to, err := key.ParseRecipient(in.Recipient.AttestationDocument)
	if problem != nil || err != nil {
		refuse(kms.Refuse(kms.Validation, "%v %v", problem, err))
		return
	}
	k.decrypted++
	envelope, _ := key.WrapEnvelope(to, k.keys[keyservice.Identity(ref.Volume)])
	json.NewEncoder(w).Encode(kms.DecryptOutput{CiphertextForRecipient: envelope})
}

// TestVolumeByCMS: a key comes in an envelope, by Decrypt; and what goes wrong says so.
func TestVolumeByCMS(t *testing.T) {
	b := newVolumeBench(t)
	b.done("keyservice init -dir @service -host keys.example")
	b.done("keyservice access -dir @service -owner owner.example -out @access x")
	var err error
	b.holder.access, err = readAccess(b.path("access"))
	must(t, err)
	b.done("volume create" + b.flags + b.service + " -name data -size 1MiB")
	var v volumeResult
	b.json("volume attach"+b.flags+b.service+" -form cms -access-key @access -lease 90s data", exitOK, &v)
	if !v.Attached || v.LeaseSeconds != 90 || b.holder.confirmed != 1 || b.holder.decrypted != 1 {
		t.Errorf("attach: %+v, %d confirmed, %d decrypted", v, b.holder.confirmed, b.holder.decrypted)
	}
	for _, c := range []struct{ line, say string }{
		{" -form pgp", "it can be hpke or cms"},
		{" -form cms", "-access-key is missing"},
		{" -access-key @access", "goes with -form cms"},
		{" -form cms -access-key @issuer.pem", "no access key"},
		{" -form cms -access-key @none", "no such file"},
	} {
		if _, _, errs := b.run("volume attach" + b.flags + b.service + c.line + " data"); !strings.Contains(errs, c.say) {
			t.Errorf("%s: %s", c.line, errs)
		}
	}
	b.holder.access.Secret = strings.Repeat("s", kms.AccessSecretSize)
	if got, _, errs := b.run("volume attach" + b.flags + b.service + " -form cms -access-key @access data"); got != exitRefused || !strings.Contains(errs, "InvalidSignatureException") {
		t.Errorf("a wrong secret: %d %s", got, errs)
	}
	if b.holder.confirmed != 1 {
		t.Error("confirmed")
	}
}

// TestReadAccess: AWS's shared credentials, with one access key.
func TestReadAccess(t *testing.T) {
	b := newBench(t)
	for text, good := range map[string]bool{
		"[default]\naws_access_key_id = a\naws_secret_access_key = b=\nregion = x\n": true,
		"# aws_access_key_id = c\naws_access_key_id=a\naws_secret_access_key=b=":     true,
		"": false, "aws_access_key_id = a\n": false, "aws_secret_access_key = b=\n": false,
		"aws_access_key_id = a\naws_secret_access_key = b=\n[more]\naws_access_key_id = c\naws_secret_access_key = d\n": false,
		string(bytes.Repeat([]byte(" "), maxCredentials+1)):                                                             false,
	} {
		must(t, os.WriteFile(b.path("access"), []byte(text), 0o600))
		if a, err := readAccess(b.path("access")); (err == nil) != good || good && a != (kms.Access{ID: "a", Secret: "b="}) {
			t.Errorf("%.60q: %+v, %v", text, a, err)
		}
	}
}
