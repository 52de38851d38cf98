// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// idle is how long a connection is held without a byte.
const idle = 8 * time.Second

// dial connects with the library, whose strictness judges what comes back.
func dial(address, path string, options *websocket.DialOptions) (context.Context, *websocket.Conn, func(), error) {
	context, cancel := context.WithTimeout(context.Background(), time.Minute)
	connection, _, err := websocket.Dial(context, "ws://"+address+path, options)
	if err != nil {
		cancel()
		return nil, nil, nil, err
	}
	connection.SetReadLimit(limit)
	end := func() {
		_ = connection.CloseNow()
		cancel()
	}
	return context, connection, end, nil
}

func compressed() []test {
	names := map[websocket.CompressionMode]string{
		websocket.CompressionContextTakeover:   "context takeover",
		websocket.CompressionNoContextTakeover: "no context takeover",
	}
	var all []test
	for _, mode := range []websocket.CompressionMode{websocket.CompressionContextTakeover, websocket.CompressionNoContextTakeover} {
		for _, size := range []int{16, 1000, 70000, 1 << 20} {
			text := []byte(strings.Repeat("mesh and mail ", size/14+1))[:size]
			mode := mode
			all = append(all, test{fmt.Sprintf("12 messages of %d bytes, %s", size, names[mode]), func(address string) error {
				context, connection, end, err := dial(address, "/deflate", &websocket.DialOptions{CompressionMode: mode})
				if err != nil {
					return err
				}
				defer end()
				for i := 0; i < 20; i++ {
					if err := roundTrip(context, connection, text); err != nil {
						return err
					}
				}
				return connection.Close(websocket.StatusNormalClosure, "")
			}})
		}
	}
	return all
}

func roundTrip(context context.Context, connection *websocket.Conn, text []byte) error {
	sent := make(chan error, 1)
	go func() { sent <- connection.Write(context, websocket.MessageBinary, text) }()
	_, got, err := connection.Read(context)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, text) {
		return fmt.Errorf("%d bytes came back changed or cut to %d", len(text), len(got))
	}
	return <-sent
}

func connections() []test {
	return []test{
		{"a subprotocol is agreed on", subprotocol},
		{"the first frame travels with the handshake", func(address string) error {
			r, err := open(address, "/echo", frame{opcode: opText, payload: []byte("early")})
			if err != nil {
				return err
			}
			defer r.Close()
			return r.message(opText, []byte("early"))
		}},
		{"an old version is refused", handshakeRefused(http.StatusBadRequest, "Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 12")},
		{"a handshake without a key is refused", handshakeRefused(http.StatusBadRequest, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "")},
		{"a page that is no WebSocket is told so", handshakeRefused(http.StatusNotFound, "GET /echo", "GET /nothing")},
		{"32 MiB both ways at once", both},
		{"a server that ends without a close frame", on("/abort", func(r *raw) error {
			if err := r.send(frame{opcode: opText, payload: []byte("go")}); err != nil {
				return err
			}
			return r.ended()
		})},
		{"a client that ends without a close frame", on("/echo", func(r *raw) error {
			if err := r.send(frame{opcode: opPing}); err != nil {
				return err
			}
			if err := r.message(opPong, nil); err != nil {
				return err
			}
			tcp, ok := r.Conn.(*net.TCPConn)
			if !ok {
				return errors.New("not TCP")
			}
			if err := tcp.CloseWrite(); err != nil {
				return err
			}
			return r.ended()
		})},
		{"held open idle", held},
	}
}

func subprotocol(address string) error {
	options := &websocket.DialOptions{Subprotocols: []string{"other", "maille"}}
	_, connection, end, err := dial(address, "/echo", options)
	if err != nil {
		return err
	}
	defer end()
	if got := connection.Subprotocol(); got != "maille" {
		return fmt.Errorf("agreed on %q", got)
	}
	return connection.Close(websocket.StatusNormalClosure, "")
}

// handshakeRefused sends the handshake with one thing changed and wants that status and then another, good exchange.
func handshakeRefused(status int, old, new string) func(string) error {
	return func(address string) error {
		connection, err := net.DialTimeout("tcp", address, 10*time.Second)
		if err != nil {
			return err
		}
		defer connection.Close()
		if err := connection.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			return err
		}
		text := strings.Replace(fmt.Sprintf(handshake, "/echo"), old, new, 1)
		if _, err := io.WriteString(connection, text); err != nil {
			return err
		}
		r := &raw{Conn: connection}
		return r.answered(status)
	}
}

// both sends sixteen messages of 2 MiB while the same come back, through the library.
func both(address string) error {
	context, connection, end, err := dial(address, "/echo", nil)
	if err != nil {
		return err
	}
	defer end()
	text := noise(2 << 20)
	sent := make(chan error, 1)
	go func() {
		for i := 0; i < 16; i++ {
			if err := connection.Write(context, websocket.MessageBinary, text); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	for i := 0; i < 16; i++ {
		_, got, err := connection.Read(context)
		if err != nil {
			return fmt.Errorf("message %d: %w", i, err)
		}
		if !bytes.Equal(got, text) {
			return fmt.Errorf("message %d came back changed", i)
		}
	}
	return <-sent
}

// held keeps ten connections without a byte, then uses each.
func held(address string) error {
	var all []*raw
	for i := 0; i < 10; i++ {
		r, err := open(address, "/echo")
		if err != nil {
			return err
		}
		defer r.Close()
		all = append(all, r)
	}
	<-time.After(idle)
	for i, r := range all {
		if err := r.send(frame{opcode: opText, payload: []byte("still there")}); err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
		if err := r.message(opText, []byte("still there")); err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
	}
	return nil
}
