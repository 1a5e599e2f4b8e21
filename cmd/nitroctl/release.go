package main

import (
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"nitro/boot/release"
)

var releaseGroup = &group{"release", "releases of the firmware", []*command{
	{
		name:    "build",
		summary: "build a release from the linker's files",
		about: `
Signs bootloader and controller, computes and signs the known-good set, makes the approvals
of the sealing keys that are at hand, and writes all into a new folder (docs/nitroctl.md,
"Release"). The other sealing authorities approve later, by seal approve. Boards that still
have an earlier release's anchor block or bootloader run the new controller only if that
release is given by -also. The same input makes the same bytes.
`,
		example: "nitroctl release build -keys keys -product imx6ul-evk -version 1.0 -security-version 1 -built 1767225600 -out release",
		setup:   releaseBuild,
	},
	{
		name:    "pack",
		summary: "pack a release into one file for update push",
		about: `
Verifies a release's folder and packs its controller, known-good set and approvals into one
file, which a running board takes over its API (docs/update.md, "Bundle"). All approvals have to be
there. The bootloader is not in it: boards keep theirs. The same release makes the same bytes.
`,
		example: "nitroctl release pack -release release-1.1 -out release-1.1.bundle",
		setup:   releasePack,
	},
	{
		name:    "show",
		summary: "verify a release and show it",
		args:    "FOLDER",
		about: `
Reads a release's folder and verifies all of it, by the given anchor block or by its own.
`,
		example: "nitroctl release show -anchors anchors.bin release",
		setup:   releaseShow,
	},
}}

// A releaseInfo is a release's manifest.
type releaseInfo struct {
	*release.Manifest
	Folder string `json:"folder"`
}

func (r releaseInfo) print(w io.Writer) {
	table(w, [2]string{"release", r.Version}, [2]string{"product", r.Product},
		[2]string{"security version", fmt.Sprint(r.SecurityVersion)}, [2]string{"development", yes(r.Development)},
		[2]string{"bootloader", fmt.Sprintf("%s, %d bytes", r.Bootloader.SHA256, r.Bootloader.Length)},
		[2]string{"controller", fmt.Sprintf("%s, %d bytes", r.Controller.SHA256, r.Controller.Length)},
		[2]string{"boards run it in", fmt.Sprintf("%d ways", len(r.Predictions))}, [2]string{"folder", r.Folder})
	for n, p := range r.Predictions {
		table(w, [2]string{fmt.Sprintf("way %d", n+1), "under bootloader " + p.Bootloader}, [2]string{"", "and anchor block " + p.Anchors},
			[2]string{"  pcr 0", p.PCR0}, [2]string{"  pcr 2", p.PCR2}, [2]string{"  pcr 7", p.PCR7})
	}
	if len(r.MissingKinds) > 0 {
		fmt.Fprintf(w, "approvals are missing: %s\nnext: nitroctl seal approve -keys FOLDER -release %s\n", strings.Join(r.MissingKinds, ", "), r.Folder)
	}
}

func releaseBuild(f *flag.FlagSet) func(*call) (result, error) {
	keys, built := keysFlag(f), builtFlag(f)
	bootloader := f.String("bootloader", "build/bootloader.elf", "ELF `file` of the bootloader")
	controller := f.String("controller", "build/controller.elf", "ELF `file` of the controller")
	product := f.String("product", "", "`product` that it is for: imx6ul-evk, imx6ul-armory")
	version := f.String("version", "", "`version`, for people")
	sv := f.Uint("security-version", 0, "security `version`, 0 to 64: boards refuse what is below their floor")
	anchors := f.String("anchors", "", "`file` of the boards' anchor block; without it one that trusts the keys is made")
	var also list
	f.Var(&also, "also", "`folder` of an earlier release that boards may still have the bootloader of; may be repeated")
	out := f.String("out", "", "new `folder` to write to")
	return func(c *call) (result, error) {
		if err := need(map[string]string{"out": *out, "product": *product, "version": *version}); err != nil {
			return nil, err
		}
		o := release.Options{Product: *product, Version: *version}
		var err error
		if o.Built, err = built(); err != nil {
			return nil, err
		}
		if o.SecurityVersion, err = securityVersion(*sv); err != nil {
			return nil, err
		}
		if o.Anchors, err = readAnchors(*anchors); err != nil {
			return nil, err
		}
		if o.Bootloader, err = release.ReadPayload(*bootloader); err != nil {
			return nil, err
		}
		if o.Controller, err = release.ReadPayload(*controller); err != nil {
			return nil, err
		}
		for _, dir := range also {
			r, err := release.Read(dir)
			if err != nil {
				return nil, err
			}
			o.Also = append(o.Also, r)
		}
		return buildRelease(*keys, o, *out)
	}
}

func buildRelease(keys list, o release.Options, out string) (result, error) {
	k, err := keys.load()
	if err != nil {
		return nil, err
	}
	r, err := release.Build(k, o)
	if err != nil {
		return nil, err
	}
	if err := r.Write(out); err != nil {
		return nil, err
	}
	return describeRelease(r, out)
}

// A bundleInfo is what was packed.
type bundleInfo struct {
	Version         string `json:"version"`
	SecurityVersion uint32 `json:"security_version"`
	File            string `json:"file"`
	Length          int    `json:"length"` // bytes
	SHA256          string `json:"sha256"`
}

func (b bundleInfo) print(w io.Writer) {
	table(w, [2]string{"release", b.Version}, [2]string{"security version", fmt.Sprint(b.SecurityVersion)},
		[2]string{"written to", fmt.Sprintf("%s, %d bytes", b.File, b.Length)}, [2]string{"sha256", b.SHA256})
}

func releasePack(f *flag.FlagSet) func(*call) (result, error) {
	dir := f.String("release", "", "`folder` of the release")
	anchors := f.String("anchors", "", anchorsUsage)
	out := f.String("out", "", "new `file` to write to")
	return func(*call) (result, error) {
		if err := need(map[string]string{"release": *dir, "out": *out}); err != nil {
			return nil, err
		}
		r, err := readRelease(*dir, *anchors)
		if err != nil {
			return nil, err
		}
		b, err := r.Bundle()
		if err != nil {
			return nil, err
		}
		if err := writeNew(*out, b); err != nil {
			return nil, err
		}
		return bundleInfo{r.Controller.Version, r.Controller.SecurityVersion, *out, len(b), hexOf(sha256.Sum256(b))}, nil
	}
}

func describeRelease(r *release.Release, folder string) (result, error) {
	m, err := r.Manifest()
	if err != nil {
		return nil, err
	}
	return releaseInfo{m, folder}, nil
}

// readRelease reads a release, whose anchor block must be the given one, if one is given.
func readRelease(dir, anchors string) (*release.Release, error) {
	r, err := release.Read(dir)
	if err != nil {
		return nil, err
	}
	a, err := readAnchors(anchors)
	if err != nil || a == nil {
		return r, err
	}
	b, err := a.Encode()
	if err == nil && *b != r.AnchorBlock {
		err = errors.New("the release's anchor block is another than the given one: it is not for these boards, or forged")
	}
	return r, err
}

func releaseShow(f *flag.FlagSet) func(*call) (result, error) {
	anchors := f.String("anchors", "", anchorsUsage)
	return func(c *call) (result, error) {
		dir, err := c.one("folder")
		if err != nil {
			return nil, err
		}
		r, err := readRelease(dir, *anchors)
		if err != nil {
			return nil, err
		}
		return describeRelease(r, dir)
	}
}
