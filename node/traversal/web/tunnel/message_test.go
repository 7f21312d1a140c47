package tunnel

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func TestOnlyThirtyTwoLowerCaseHexDigitsNameASession(t *testing.T) {
	good := strings.Repeat("0a", 16)
	if !validID(good) {
		t.Errorf("%s is refused", good)
	}
	for _, bad := range []string{"", good[1:], good + "0", strings.ToUpper(good), strings.Repeat("0g", 16)} {
		if validID(bad) {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestAPositionSurvivesItsQuery(t *testing.T) {
	for _, p := range []position{{}, {off: 1, ack: maxOffset}, {off: 77, fin: true}, {poll: true}} {
		q, err := url.ParseQuery(p.query(3))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := parsePosition(q); err != nil || got != p {
			t.Errorf("%+v became %+v, %v", p, got, err)
		}
	}
	for _, bad := range []string{"off=-1", "off=", "ack=x", "off=18446744073709551615"} {
		q, _ := url.ParseQuery(bad)
		if _, err := parsePosition(q); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}

// FuzzAnswers feeds a client's parsers: they must end, and give out no more bytes
// than came in.
func FuzzAnswers(f *testing.F) {
	var h [frameHeader]byte
	putFrameHeader(h[:], kindData, 3)
	f.Add([]byte(magic + string(h[:]) + "abc" + "F\x00\x00\x00\x00"))
	f.Add([]byte(magic + string(h[:]) + "ab"))
	f.Add([]byte(magic + "E\x00\x00\x00\x00"))
	f.Add([]byte(magic + "D\x00\x00\x00\x00"))
	f.Add([]byte(magic + "D\xff\xff\xff\xff"))
	f.Add(receipt{closed: true, ack: 9}.encode())
	f.Add([]byte("HTTP/1.1 200 OK\r\n\r\n"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		if r, err := readReceipt(bytes.NewReader(answer)); err == nil && !bytes.HasPrefix(answer, r.encode()) {
			t.Errorf("%q was read as %+v", answer, r)
		}
		r, err := newFrameReader(bytes.NewReader(answer))
		if err != nil {
			return
		}
		got, err := io.ReadAll(r)
		if len(got) > len(answer)-len(magic) {
			t.Errorf("%d bytes out of %d", len(got), len(answer))
		}
		if errors.Is(err, errFin) && !bytes.Contains(answer, []byte{kindFin, 0, 0, 0, 0}) {
			t.Error("an end that nobody announced")
		}
	})
}

// FuzzRequests feeds the server: whatever is asked, it answers, and keeps to its
// limits.
func FuzzRequests(f *testing.F) {
	id := strings.Repeat("0", 32)
	f.Add("POST", id+"/up", "off=0&ack=0", []byte("bytes"))
	f.Add("POST", id+"/up", "off=5&ack=1", []byte("later"))
	f.Add("POST", id+"/up", "off=0&fin=1", []byte{})
	f.Add("POST", id+"/open", "", []byte{})
	f.Add("GET", id+"/down", "off=0&mode=poll", []byte{})
	f.Add("GET", id+"/down", "off=99999999999", []byte{})
	f.Add("PUT", "../x", "off=1", []byte{1})
	f.Fuzz(func(t *testing.T, method, path, query string, body []byte) {
		s := &Server{Accept: func(*Conn, *http.Request) bool { return true }}
		c, _, err := s.begin(id)
		if err != nil {
			t.Fatal(err)
		}
		defer c.fail(errServerDone)
		c.out.finish() // so that a down has its answer
		c.in.ended = true
		r := &http.Request{Method: method, URL: &url.URL{Path: Path + path, RawQuery: query}, Body: io.NopCloser(bytes.NewReader(body))}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code == 0 || c.in.bytes.size != 0 {
			t.Errorf("status %d, %d bytes taken by a stream that is over", w.Code, c.in.bytes.size)
		}
	})
}
