// SPDX-License-Identifier: Apache-2.0

// Command odd serves HTTP/1 on the address given and answers each request with the very bytes that it came in, in odd but
// allowed ways that the path chooses. It writes every answer by hand: a library would make it even.
package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: odd ADDRESS")
	}
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go serve(connection)
	}
}

// A client, and all that it has said since it was last looked at.
type client struct {
	net.Conn
	from *bufio.Reader
	said bytes.Buffer
}

func serve(connection net.Conn) {
	defer connection.Close()
	c := &client{Conn: connection}
	c.from = bufio.NewReaderSize(io.TeeReader(connection, &c.said), 1<<17)
	for {
		_ = connection.SetDeadline(time.Now().Add(20 * time.Second))
		request, err := http.ReadRequest(c.from)
		if err != nil {
			return
		}
		again, err := c.exchange(request)
		if err != nil || !again {
			return
		}
	}
}

// raw takes the bytes of the request that was read.
func (c *client) raw() []byte {
	return append([]byte(nil), c.said.Next(c.said.Len()-c.from.Buffered())...)
}

// exchange reads the rest of a request and answers it. Whether the connection goes on.
func (c *client) exchange(request *http.Request) (bool, error) {
	path := request.URL.Path
	if request.Method == http.MethodConnect {
		c.raw()
		_, err := io.WriteString(c, "HTTP/1.1 200 Connection Established\r\nX-Tunnel: yes\r\n\r\n")
		return true, err
	}
	if path == "/refuse" {
		_, err := io.WriteString(c, "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno\n")
		return false, err
	}
	if strings.EqualFold(request.Header.Get("Expect"), "100-continue") {
		if _, err := io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n"); err != nil {
			return false, err
		}
	}
	sum := sha256.New()
	size, err := io.Copy(sum, request.Body)
	if err != nil {
		return false, err
	}
	body := c.raw()
	if path == "/sum" {
		body = fmt.Appendf(nil, "%d %x\n", size, sum.Sum(nil))
	}
	if path == "/upgrade" {
		return false, c.upgrade(body)
	}
	text, again := answer(path, body, request.Method == http.MethodHead)
	_, err = c.Write(text)
	return again && !request.Close, err
}

// upgrade switches to a protocol that echoes until the client has nothing more to say.
func (c *client) upgrade(body []byte) error {
	if _, err := io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: odd\r\n\r\n"); err != nil {
		return err
	}
	if _, err := c.Write(body); err != nil {
		return err
	}
	_, err := io.Copy(c, c.from)
	return err
}

const even = "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nServer: odd\r\nX-CaSe: Kept\r\nx-twice: one\r\nX-Twice: two\r\n" +
	"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Empty: \r\nX-Spaces: inside  and out\r\n"

// answer is the whole answer for path, and whether the connection can be used again.
func answer(path string, body []byte, head bool) ([]byte, bool) {
	length := fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body))
	with := func(head string) []byte { return append([]byte(head), body...) }
	chunks := chunked(body)
	if head {
		with = func(head string) []byte { return []byte(head) }
		chunks = nil
	}
	switch path {
	case "/chunked":
		return append([]byte("HTTP/1.1 200 OK\r\n"+even+"Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"), chunks...), true
	case "/close":
		return with("HTTP/1.1 200 OK\r\n" + even + "Connection: close\r\n\r\n"), false
	case "/old":
		return with("HTTP/1.0 200 OK\r\n" + even + "\r\n"), false
	case "/old-kept":
		return with("HTTP/1.0 200 OK\r\n" + even + "Connection: keep-alive\r\n" + length), true
	case "/early":
		hints := "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
		return with(hints + "HTTP/1.1 102 Processing\r\n\r\n" + hints + "HTTP/1.1 200 OK\r\n" + even + length), true
	case "/nothing":
		return []byte("HTTP/1.1 204 No Content\r\n" + even + "\r\n"), true
	case "/unchanged":
		return []byte("HTTP/1.1 304 Not Modified\r\n" + even + "ETag: \"x\"\r\nContent-Length: 17\r\n\r\n"), true
	case "/reason":
		return with("HTTP/1.1 299 As We Like It: \"odd\" \xe9\r\n" + even + length), true
	case "/no-reason":
		return with("HTTP/1.1 200 \r\n" + even + length), true
	case "/error":
		return with("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n" + even + length), true
	case "/large-head":
		return with("HTTP/1.1 200 OK\r\n" + even + strings.Repeat("X-Large: "+strings.Repeat("h", 1000)+"\r\n", 40) + length), true
	case "/many-fields":
		return with("HTTP/1.1 200 OK\r\n" + even + strings.Repeat("X-Many: field\r\n", 200) + length), true
	case "/zero-nine":
		return []byte("no head at all\n"), false
	case "/short":
		return []byte("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort\n"), false
	default:
		return with("HTTP/1.1 200 OK\r\n" + even + length), true
	}
}

// chunked cuts body into chunks of odd sizes, with extensions and a trailer section.
func chunked(body []byte) []byte {
	var text []byte
	for size := 1; len(body) > 0; size = size*2 + 1 {
		if size > len(body) {
			size = len(body)
		}
		text = fmt.Appendf(text, "%03X;name=\"quoted; text\";flag\r\n%s\r\n", size, body[:size])
		body = body[size:]
	}
	return append(text, "000;last\r\nX-Sum: 1\r\nx-SUM: 2\r\n\r\n"...)
}
