// Sends one message with Jakarta Mail: java -cp jakarta.mail.jar:jakarta.activation.jar Send.java KEY=VALUE...
// Keys: host port security ca user password from to message, and any property of the SMTP provider (mail.smtp.dsn.ret).

import jakarta.mail.Session;
import jakarta.mail.Transport;
import jakarta.mail.internet.InternetAddress;
import jakarta.mail.internet.MimeMessage;
import java.io.FileInputStream;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.Properties;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

public class Send {
    public static void main(String[] arguments) throws Exception {
        Properties order = new Properties();
        for (String argument : arguments) {
            int at = argument.indexOf('=');
            order.put(argument.substring(0, at), argument.substring(at + 1));
        }
        KeyStore trusted = KeyStore.getInstance(KeyStore.getDefaultType());
        trusted.load(null);
        try (FileInputStream octets = new FileInputStream(order.getProperty("ca"))) {
            trusted.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(octets));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(trusted);
        SSLContext tls = SSLContext.getInstance("TLS");
        tls.init(null, trust.getTrustManagers(), null);

        Properties settings = new Properties();
        order.stringPropertyNames().stream()
            .filter(key -> key.startsWith("mail."))
            .forEach(key -> settings.put(key, order.getProperty(key)));
        settings.put("mail.smtp.ssl.socketFactory", tls.getSocketFactory());
        settings.put("mail.smtp.ssl.checkserveridentity", "true");
        settings.put("mail.smtp.localhost", "client.example.org");
        settings.put("mail.smtp.auth", "true");
        settings.put("mail.smtp.timeout", "30000");
        settings.put(order.getProperty("security").equals("tls") ? "mail.smtp.ssl.enable" : "mail.smtp.starttls.required", "true");
        settings.put("mail.smtp.starttls.enable", "true");
        settings.put("mail.smtp.from", order.getProperty("from"));
        settings.put("mail.smtp.allow8bitmime", "true");

        Session session = Session.getInstance(settings);
        session.setDebug(true);
        session.setDebugOut(System.out);
        MimeMessage message;
        try (FileInputStream octets = new FileInputStream(order.getProperty("message"))) {
            message = new MimeMessage(session, octets);
        }
        try (Transport transport = session.getTransport("smtp")) {
            transport.connect(
                order.getProperty("host"),
                Integer.parseInt(order.getProperty("port")),
                order.getProperty("user"),
                order.getProperty("password"));
            transport.sendMessage(message, InternetAddress.parse(order.getProperty("to")));
        }
    }
}
