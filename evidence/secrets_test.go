package evidence

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"
)

// protoKey is a libp2p key file's content, in base64.
func protoKey(kind, length byte, key []byte) string {
	return base64.StdEncoding.EncodeToString(append([]byte{8, kind, 0x12, length}, key...))
}

// leaky is one text per shape; each holds the word SECRET or alice where what
// must not remain is written out.
func leaky(t testing.TB) map[string]string {
	t.Helper()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(ed)
	must(t, err)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	rsaDER := x509.MarshalPKCS1PrivateKey(rsaKey)
	rsaProto := append([]byte{8, 0, 0x12, byte(len(rsaDER)&0x7f | 0x80), byte(len(rsaDER) >> 7)}, rsaDER...)
	return map[string]string{
		"PKCS#8":          string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"OpenSSH, cut":    "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA",
		"libp2p Ed25519":  "key " + protoKey(1, 64, ed),
		"libp2p RSA":      base64.StdEncoding.EncodeToString(rsaProto),
		"libp2p secp":     `{"key":"` + protoKey(2, 32, ed[:32]) + `"}`,
		"header":          "Authorization: Bearer SECRET-token",
		"proxy header":    `err="CONNECT: Proxy-Authorization: Basic U0VDUkVUOnNlY3JldA=="`,
		"header in JSON":  `{"Authorization":"Basic U0VDUkVUOnNlY3JldA=="}`,
		"URL":             "proxyconnect http://alice:SECRET@proxy.example:3128/ refused",
		"URL, no user":    "redis://:SECRET@host",
		"password":        "dial with password=SECRET now",
		"password, JSON":  `{"password": "SECRET"}`,
		"AWS":             "AKIASECRETSECRETSECR",
		"GitHub":          "ghp_SECRET" + strings.Repeat("a", 30),
		"GitHub, fine":    "github_pat_SECRET" + strings.Repeat("a", 30),
		"JWT":             "eyJhbGciOiJI.eyJzdWIiOiJTRUNSRVQ.SECRETSECRET",
		"home":            "open /home/alice/.ssh/config: no such file",
		"home, quoted":    `err="open \"/home/alice/x\": denied"`,
		"home after \\n":  `{"tail":"panic:\n\t/home/alice/go/main.go:3"}`,
		"home, URL":       "file:///home/alice/x",
		"home, macOS":     "dir=/Users/alice",
		"home, root":      "stat /root/.bashrc: no such file",
		"home, ostree":    "at /var/home/alice/x",
		"home, Windows":   `at C:\Users\alice\x`,
		"several at once": "/home/alice:/home/alice/bin https://a:SECRET@h/ https://b:SECRET@h/",
	}
}

func TestEverySecretIsFoundAndScrubbed(t *testing.T) {
	var none *Scrubber
	for what, text := range leaky(t) {
		if found := scanText(t, text); len(found) == 0 {
			t.Errorf("%s: not found in %s", what, text)
		}
		clean := none.String(text)
		if found := scanText(t, clean); len(found) > 0 {
			t.Errorf("%s: scrubbed, and yet %v in %s", what, found, clean)
		}
		if strings.Contains(clean, "SECRET") || strings.Contains(clean, "alice") {
			t.Errorf("%s: left in %s", what, clean)
		}
		if again := none.String(clean); again != clean {
			t.Errorf("%s: scrubbed twice, %s became %s", what, clean, again)
		}
	}
}

func TestWhatIsNoSecretIsLeftAlone(t *testing.T) {
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	var none *Scrubber
	for _, text := range []string{
		"/ip4/45.1.2.3/tcp/443/tls/ws/p2p/12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf/p2p-circuit",
		`{"voucher":"` + protoKey(1, 32, pub) + `"}`, // a public key
		"https://example.org/home/page and ~/home/x and /srv/home/y",
		"the root of the tree, /rooted, /proc/root/x",
		"wss://relay.example:443/ and ssh://user@host:22",
		"password authentication is off; Password: ",
		"Authorization: [credentials]",
		"-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----",
		"SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
		"http://[::1]:8080/a@b",
	} {
		if clean := none.String(text); clean != text {
			t.Errorf("%q became %q", text, clean)
		}
		if found := scanText(t, text); len(found) > 0 {
			t.Errorf("%v in %q", found, text)
		}
	}
}

func TestKnownSecretsAndHomesAreScrubbed(t *testing.T) {
	c := &Scrubber{Homes: []string{"/data/alice/", "/data/alice/deep", "/"}, Secrets: []string{"abc", `s3cr"et`, `s3cr"et-longer`}}
	for text, want := range map[string]string{
		"open /data/alice/x":                       "open ~/x",
		"/data/alice:/data/alice/deep/y":           "~:~/y",
		"/data/alice2/x stays":                     "/data/alice2/x stays",
		`token s3cr"et-longer and s3cr"et and abc`: "token [secret] and [secret] and abc",
		`{"t":"s3cr\"et"}`:                         `{"t":"[secret]"}`,
	} {
		if got := c.String(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}

func TestTheSuitesOwnWordsAreScrubbedAndTheNodesReported(t *testing.T) {
	w := newWriter(t)
	for _, text := range leaky(t) {
		_, err := w.Append(StepFailed, "laptop", Failure{Step: "x", Err: text})
		must(t, err)
		_, err = w.RunLog().Write([]byte(text + "\n"))
		must(t, err)
	}
	leaks, err := ScanSecrets(w.Dir())
	must(t, err)
	if len(leaks) > 0 {
		t.Fatalf("leaks %v", leaks)
	}
	whole(t, open(t, w.Dir()))

	_, err = w.Append(NodeSaid, "tensor02", json.RawMessage(`{"err":"open /home/alice/x"}`))
	must(t, err)
	f, err := w.WriteLog("tensor02", strings.NewReader("fine\ngot Authorization: Basic QUxJQ0U6\n"), 0)
	must(t, err)
	must(t, w.Seal())
	leaks, err = ScanSecrets(w.Dir())
	must(t, err)
	got := strings.Join(leaks, "; ")
	if want := f.File + ":2: credentials of an HTTP header; trace.jsonl:"; !strings.HasPrefix(got, want) || !strings.HasSuffix(got, ": a home directory") {
		t.Errorf("leaks %s", got)
	}
	if strings.Contains(got, "QUxJQ0U6") || strings.Contains(got, "alice") {
		t.Errorf("the report of a leak leaks: %s", got)
	}
}

func TestAHiddenHomeIsScrubbedAndWhereANodeSaysItReported(t *testing.T) {
	w := newWriter(t)
	w.Hide("/data/alice")
	_, err := w.Append(StepFailed, "laptop", Failure{Step: "x", Err: "open /data/alice/.ssh/config: denied"})
	must(t, err)
	_, err = w.RunLog().Write([]byte("dir=/data/alice\n"))
	must(t, err)
	for _, scan := range []func() ([]string, error){w.ScanSecrets, func() ([]string, error) { return ScanSecrets(w.Dir()) }} {
		leaks, err := scan()
		must(t, err)
		if len(leaks) > 0 {
			t.Errorf("leaks %v", leaks)
		}
	}
	if text := string(readFile(t, w.Dir(), TraceFile)) + string(readFile(t, w.Dir(), RunLogFile)); strings.Contains(text, "alice") || !strings.Contains(text, "open ~/.ssh/config") {
		t.Errorf("written: %s", text)
	}

	_, err = w.Append(NodeSaid, "tensor02", json.RawMessage(`{"err":"open /data/alice/x"}`))
	must(t, err)
	_, err = w.WriteLog("tensor02", strings.NewReader("fine, /data/alice2 too\nat /data/alice\nand /home/bob\n"), 0)
	must(t, err)
	must(t, w.Seal())
	leaks, err := w.ScanSecrets()
	must(t, err)
	want := "logs/tensor02.log.gz:2: a home directory; logs/tensor02.log.gz:3: a home directory; trace.jsonl:2: a home directory"
	if got := strings.Join(leaks, "; "); got != want {
		t.Errorf("leaks %s, want %s", got, want)
	}
	leaks, err = ScanSecrets(w.Dir()) // a stranger knows shapes only
	must(t, err)
	if got := strings.Join(leaks, "; "); got != "logs/tensor02.log.gz:3: a home directory" {
		t.Errorf("leaks %s", got)
	}
}

// FuzzScrub: what has been scrubbed has no secret in it, is scrubbed for good,
// and is JSON if it was.
func FuzzScrub(f *testing.F) {
	for _, text := range leaky(f) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var none *Scrubber
		clean := none.String(text)
		if again := none.String(clean); again != clean {
			t.Errorf("%q, then %q", clean, again)
		}
		if found := scanText(t, clean); len(found) > 0 {
			t.Errorf("%v in %q", found, clean)
		}
		doc, err := marshal(map[string]string{"err": text})
		must(t, err)
		if out := none.String(string(doc)); !json.Valid([]byte(out)) {
			t.Errorf("%s became %s", doc, out)
		}
	})
}

func scanText(t testing.TB, text string) []string {
	t.Helper()
	leaks, err := scan("x", strings.NewReader(text), secrets)
	must(t, err)
	return leaks
}
